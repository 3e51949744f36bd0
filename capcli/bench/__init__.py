"""How fast each stage of captioning is."""
