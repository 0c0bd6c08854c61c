"""Preference pairs: which answers to compare, how sure a label is, which pairs to trust."""
