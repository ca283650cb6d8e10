"""Encoders: loading models, and computing embeddings of images and sentences."""
