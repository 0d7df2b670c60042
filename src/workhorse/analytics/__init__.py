"""Answers about what the service has written, in the shapes that data people use, out of the transactions' way."""
