"""Captioned photos: reading, encoding and batching them."""
