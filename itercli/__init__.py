"""itercli: durable experiment runner for iterative self-training of language models."""

__version__ = "0.1.0"
