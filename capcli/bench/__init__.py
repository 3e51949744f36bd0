"""The speed of each stage of captioning."""
