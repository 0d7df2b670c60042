"""Attacks on the running bank: hostile clients of our own, and the scanners of others."""
