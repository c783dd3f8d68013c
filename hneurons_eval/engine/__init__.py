"""The inference engine on transformers: sampling, capture and scaling, and its Inspect provider."""

MAX_CONNECTIONS = 512
"""Requests in flight at once; the engine batches what is in flight."""
