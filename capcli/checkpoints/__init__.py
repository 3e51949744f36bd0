"""Checkpoints: models in folders and on the Hub, checked before they are used."""
