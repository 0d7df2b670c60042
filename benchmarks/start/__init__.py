"""How soon a service is there: `python -m start`."""
