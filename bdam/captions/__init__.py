"""Captions → styles → identity and clothing descriptions."""
