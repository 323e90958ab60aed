"""One stream's loop, and the worker of several streams."""
