"""What `capcli train` and `capcli evaluate` need and captioning does not."""
