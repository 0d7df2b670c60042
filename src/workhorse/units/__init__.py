"""One request, one commit: business rows and the reply to a retried request commit together, or not at all."""

from workhorse.units.asgi import UnitLayer
from workhorse.units.work import Work, unit

__all__ = ["UnitLayer", "Work", "unit"]
