"""The Python-backend model that the embedded server runs; copied into its model repository."""
