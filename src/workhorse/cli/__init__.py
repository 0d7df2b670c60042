"""The command `workhorse`: one verb a file, and `--help` is the map of what exists."""

from workhorse.cli.main import main

__all__ = ["main"]
