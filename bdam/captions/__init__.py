"""Captions → styles; images → what an MLLM writes about the person, and about the clothes."""
