"""Weights → numbers and images."""
