"""The weights of a checkpoint in its files: read, rewritten and exported without loading the model."""
