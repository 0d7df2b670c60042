"""Fuzzing of everything that reads what a stranger sends: harnesses with oracles, and the runner around them."""
