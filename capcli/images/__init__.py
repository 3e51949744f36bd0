"""Images: from command line arguments to files, and from files to upright RGB pixels."""
