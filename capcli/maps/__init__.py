"""Where the model looked, drawn for people."""
