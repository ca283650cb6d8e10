"""Descriptions of the person and of the clothes on an image by an MLLM, in the styles that captions are written in."""
