"""Weights → numbers and pictures."""
