"""Face detection and face ReID as calls on frames and faces."""
