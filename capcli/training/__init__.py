"""Training and evaluation, which captioning does not need."""
