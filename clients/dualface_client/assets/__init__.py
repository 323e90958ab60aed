"""What a machine needs besides Python packages: models and the embedded server."""
