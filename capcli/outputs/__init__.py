"""Where captions go: rows in a file, sidecars, and the images themselves."""
