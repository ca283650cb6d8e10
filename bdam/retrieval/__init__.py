"""Weights + pictures → ranked people."""
