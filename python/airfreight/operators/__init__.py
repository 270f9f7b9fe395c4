"""Tasks that run work elsewhere."""
