"""Checkpoints: models in folders and on the Hub, checked before use."""
