"""What a unit costs over an app's own transaction: `python -m unit`."""
