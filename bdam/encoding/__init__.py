"""Models, images and sentences → embeddings."""
