"""What many idle and slow clients do to the others: `python -m connections`."""
