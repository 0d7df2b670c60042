"""Attacks by our own hostile client, a file for each kind."""
