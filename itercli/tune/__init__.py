"""Tuning: a study of trials over a recipe's options, with Optuna."""
