"""Shared baselines: one paper, one file, one LightningModule."""
