"""People found in photographs and videos, and cut out of them."""
