"""Models, pictures and sentences → embeddings."""
