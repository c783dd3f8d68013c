"""Question and behaviour sets: the bundled ones, those on the Hub, and local files in the same schemas."""
