"""One request, one commit: business rows and the reply to a retried request commit together, or not at all."""

from workhorse.units.asgi import UnitLayer
from workhorse.units.threads import SyncWork, sync_unit
from workhorse.units.unit import Unit
from workhorse.units.work import Outbox, Work, unit

__all__ = ["Outbox", "SyncWork", "Unit", "UnitLayer", "Work", "sync_unit", "unit"]
