"""Many inputs to many outputs: what is asked, prepared and carried out."""
