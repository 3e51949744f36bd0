"""Engines run the network: one interface, `Engine`, and its implementations."""
