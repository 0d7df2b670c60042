"""What a service and its workers do with what an app says of people."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from workhorse.service.rooms import Rooms
from workhorse.telemetry.masking import Masking

if TYPE_CHECKING:
    from workhorse.service.service import Service

__all__ = ["forgetting", "guard_privacy"]

HOUR_SECONDS: Final = 3_600.0
SOON_SECONDS: Final = 30.0


def guard_privacy(service: "Service", rooms: Rooms) -> None:
    """Mask what is personal in the log from now on, and refuse what would leave it where it cannot be erased.

    Sessions of units seal the columns of models that are sealed by themselves, from now on.

    Raises:
        SettingsError: an event, a job or the wrapping of keys would (see `Privacy.check`).
    """
    privacy = service.privacy
    if privacy is None:
        return
    privacy.check(events=service.events.values(), jobs=service.jobs, production=rooms.settings.production)
    rooms.log.masking = Masking(privacy.personal_names)
    sessions = getattr(service.database_of(rooms), "sessions", None)  # SQLAlchemy's, of units on an app's own engine
    if privacy.keys is not None and sessions is not None:
        from workhorse.integrations.sqlalchemy import seal_sessions  # noqa: PLC0415 - SQLAlchemy is an extra

        seal_sessions(sessions, privacy.keys)


@asynccontextmanager
async def forgetting(service: "Service", rooms: Rooms) -> AsyncGenerator[None]:
    """Forget what is old, every hour during the block."""
    privacy = service.privacy
    if privacy is None or not privacy.retention:
        yield
        return
    from workhorse.privacy import forget_old  # noqa: PLC0415 - most services have no such rules

    async def forget() -> None:
        # Not at once, and not all processes at the same time.
        pause = SOON_SECONDS * (0.5 + random.random())  # noqa: S311 - spreads load, hides nothing
        while True:
            await asyncio.sleep(pause)
            pause = HOUR_SECONDS
            for rule in privacy.retention:
                try:
                    rows = await forget_old(service.database_of(rooms), rule)
                except Exception as error:  # noqa: BLE001 - tried again at the next turn, whatever it was
                    rooms.log.event("warning", "retention.failed", table=rule.table, exception=error)
                    continue
                if rows:
                    rooms.log.event("info", "retention.done", table=rule.table, rows=rows, because=rule.because)

    task = asyncio.create_task(forget(), name="forget what is old")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
