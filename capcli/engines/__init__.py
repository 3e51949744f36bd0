"""What runs the network: one interface, `Engine`, and who implements it."""
