"""Recipes: what to train, as data."""
