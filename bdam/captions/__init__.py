"""Captions → styles; pictures → what an MLLM writes about the person, and about the clothes."""
