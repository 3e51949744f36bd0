"""Training as people see it: its page, its lines, TensorBoard."""
