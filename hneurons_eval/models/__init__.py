"""A checkpoint and its MLP neurons: where they are, what they contribute, and how they are scaled."""
