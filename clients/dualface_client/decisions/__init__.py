"""What is decided about each frame of a stream: who is where, and what the canvas shows."""
