"""Who a file is about: where to look, whose face is whose, who matters, who sits where."""
