"""The schema of the records, forward only."""
