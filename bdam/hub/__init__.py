"""Weights + numbers → a Hub repository."""
