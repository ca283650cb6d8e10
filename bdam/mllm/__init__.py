"""Multimodal language models (MLLMs) behind OpenAI-compatible endpoints: the client, its replies, images to send."""
