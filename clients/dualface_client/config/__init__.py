"""Where each setting comes from: the table, files, variables, options and their layers."""
