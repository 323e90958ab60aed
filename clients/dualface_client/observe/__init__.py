"""Progress, track log, run summary."""
