"""The inference engine on transformers: sampling, capture and scaling, and its Inspect provider."""
