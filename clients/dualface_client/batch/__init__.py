"""Many inputs to many outputs: what is asked for, prepared and carried out."""
