"""Numbers that tasks and provider share, without importing torch."""

MAX_CONNECTIONS = 512
"""Requests in flight at once; the engine batches what is in flight."""
