"""Ranking metrics as expectations over ties."""
