"""One stream: its loop, its threads, its device, and the runner of several."""
