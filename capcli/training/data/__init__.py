"""Captioned photos: reading them, encoding them, giving them out in batches."""
