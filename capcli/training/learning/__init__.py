"""Training a model: options, losses, the loop, and what a run keeps."""
