"""What this machine is, and how to use it best."""
