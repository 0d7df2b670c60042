"""The engine of a service's warehouse, by the settings of analytics."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from workhorse.errors import SettingsError
from workhorse.service.rooms import Rooms

if TYPE_CHECKING:
    from workhorse.service.service import Service

__all__ = ["storing"]


@asynccontextmanager
async def storing(service: "Service", rooms: Rooms) -> AsyncGenerator[None]:
    """Give the warehouse of a service its engine during the block. It is connected to when it is used.

    Raises:
        SettingsError: `analytics.warehouse_url` is missing, or of no engine that is known.
    """
    warehouse = service.warehouse
    if warehouse is None:
        yield
        return
    from workhorse.state.warehouses.opening import open_engine  # noqa: PLC0415 - most services have none

    settings = rooms.settings.analytics
    if settings.warehouse_url is None:
        raise SettingsError("the service has a warehouse, and analytics.warehouse_url does not say where it is")
    engine = open_engine(
        settings.warehouse_url.get_secret_value(), statement_timeout_seconds=settings.statement_timeout_seconds
    )
    warehouse.bind(engine, metrics=rooms.metrics)
    try:
        yield
    finally:
        warehouse.bind(None, metrics=None)
        await engine.close()
