"""Names of objects. Pure."""

from typing import Final

__all__ = ["MAX_NAMES", "checked"]

MAX_NAMES: Final = 100_000
"""Of one listing. More objects in one export are a partitioning that went wrong."""
MAX_LENGTH: Final = 900


def checked(name: str) -> str:
    """A name that leads nowhere else.

    Raises:
        ValueError: it is empty, too long for a store (S3: 1,024 bytes with the prefix), or has a part `..`, `.` or
            none, or a character that is not printable.
    """
    parts = name.split("/")
    if len(name.encode()) > MAX_LENGTH or not name.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"{name[:200]!r} is no name of an object: parts between slashes, none of them '.' or '..'")
    return name
