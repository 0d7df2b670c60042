"""One request, one commit: business rows and the reply to a retried request commit together, or not at all."""

from workhorse.units.asgi import UnitLayer
from workhorse.units.unit import Unit
from workhorse.units.work import Outbox, Work, unit

__all__ = ["Outbox", "Unit", "UnitLayer", "Work", "unit"]
