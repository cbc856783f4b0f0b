"""Hyper-parameter search: one file in W&B's sweep schema, searched by Optuna or by W&B agents."""
