"""Weights + images → ranked people."""
