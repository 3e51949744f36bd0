"""Images: from arguments to files, and from files to upright RGB pixels."""
