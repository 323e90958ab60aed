"""Looks at finished tiles as an editor would, without asking the program that made them."""
