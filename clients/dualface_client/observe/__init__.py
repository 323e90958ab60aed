"""What a run reports: progress, logs, state, health, figures, report."""
