"""Relation-aware recommenders that latent relations can be attached to."""
