"""What can be wrong with an export."""

from workhorse.errors import WorkhorseError

__all__ = ["ExportRefused"]


class ExportRefused(WorkhorseError):
    """An export cannot be made as it is asked for. What was there before is as it was."""
