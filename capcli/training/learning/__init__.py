"""Training a model: options, losses, loop, and a run's files."""
