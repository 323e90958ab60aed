"""Virtual cameras: what each tile shows."""
