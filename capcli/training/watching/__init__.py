"""What people see of a training: its page, its lines, TensorBoard."""
