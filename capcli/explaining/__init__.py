"""A person's sentence read over a photo."""
