"""Data sets: benchmarks, generated pedestrians, images, and batches."""
