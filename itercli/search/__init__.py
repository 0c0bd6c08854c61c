"""Tree search in environments."""
