"""Worker processes that carry streams, and who supervises them."""
