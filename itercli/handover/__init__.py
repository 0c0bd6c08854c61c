"""Handing over what a run made: models and data sets with their cards, and suites to evaluate models on."""
