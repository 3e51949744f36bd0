"""Checkpoints: what lies in a folder or on the Hub, checked before it is believed."""
