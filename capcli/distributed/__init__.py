"""Captioning on a Ray cluster: work in blocks, actors that do it, and their output."""
