"""Sweeps: one command line, many runs (`iter run -m`)."""
