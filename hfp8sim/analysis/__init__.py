"""What was measured: accuracy, and the theory it is held against."""
