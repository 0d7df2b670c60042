"""The bank's days. They end at midnight UTC, which the clock passes once a day in every year."""

from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator

__all__ = ["Day"]


def _read(value: Any) -> Any:
    """Read a day as ISO 8601 writes it. Numbers, which pydantic would count from 1970, are left to be refused."""
    return date.fromisoformat(value) if isinstance(value, str) else value


Day = Annotated[date, BeforeValidator(_read)]
"""A day such as 2026-05-01, and nothing else that might be read as one."""
