"""Small helpers without a subject of their own: files, errors, markdown, memory, cards."""
