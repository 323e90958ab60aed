"""Worker processes that carry streams, and their supervisor."""
