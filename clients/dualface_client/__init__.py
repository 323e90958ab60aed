"""Two people of a video, each framed in a tile of their own, by way of a Triton server."""

__version__ = "0.1.0"
