"""The harnesses, a file for each part of the package."""
