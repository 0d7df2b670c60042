"""The bank beside its peers: `make bench-bank`."""
