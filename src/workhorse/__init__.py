"""Takes the app that a team already has and makes it a service that a bank can run.

The names below are the front door. They are loaded when they are first used, so that `import workhorse` stays cheap
and loads no driver.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from workhorse.context import RequestContext, current_request
    from workhorse.errors import Fault, Problem
    from workhorse.guard import Guard
    from workhorse.migrations import Migrations
    from workhorse.policy import Policy
    from workhorse.principal import Principal
    from workhorse.rate import Rate
    from workhorse.service import Service
    from workhorse.settings import Settings, load_settings
    from workhorse.units import UnitLayer, Work, unit

__all__ = [
    "Fault",
    "Guard",
    "Migrations",
    "Policy",
    "Principal",
    "Problem",
    "Rate",
    "RequestContext",
    "Service",
    "Settings",
    "UnitLayer",
    "Work",
    "current_request",
    "load_settings",
    "unit",
]

__version__ = "0.1.0"

_HOMES: Final = {
    "Fault": "workhorse.errors",
    "Guard": "workhorse.guard",
    "Migrations": "workhorse.migrations",
    "Policy": "workhorse.policy",
    "Principal": "workhorse.principal",
    "Problem": "workhorse.errors",
    "Rate": "workhorse.rate",
    "RequestContext": "workhorse.context",
    "Service": "workhorse.service",
    "Settings": "workhorse.settings",
    "UnitLayer": "workhorse.units",
    "Work": "workhorse.units",
    "current_request": "workhorse.context",
    "load_settings": "workhorse.settings",
    "unit": "workhorse.units",
}


def __getattr__(name: str) -> Any:
    """Load a name of the front door from its room (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'workhorse' has no attribute {name!r}; it offers: {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
