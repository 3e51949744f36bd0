"""Captioning by the machines of a Ray cluster: what is to be done in blocks, actors that do them, and their output."""
