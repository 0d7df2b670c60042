"""Takes the app that a team already has and makes it a service that a bank can run.

The names below are the front door. They are loaded when they are first used, so that `import workhorse` stays cheap
and loads no driver.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from workhorse.audited import Audit
    from workhorse.batches import batched
    from workhorse.caching import Caches, Leases
    from workhorse.context import RequestContext, current_request
    from workhorse.errors import Fault, Problem
    from workhorse.guard import Guard
    from workhorse.integrations.openapi import problem_replies
    from workhorse.jobs import Schedule, job, step
    from workhorse.migrations import Migrations
    from workhorse.policy import Policy
    from workhorse.principal import Principal
    from workhorse.rate import Rate
    from workhorse.service import Service
    from workhorse.settings import Settings, load_settings
    from workhorse.units import Unit, UnitLayer, Work, sync_unit, unit

__all__ = [
    "Audit",
    "Caches",
    "Fault",
    "Guard",
    "Leases",
    "Migrations",
    "Policy",
    "Principal",
    "Problem",
    "Rate",
    "RequestContext",
    "Schedule",
    "Service",
    "Settings",
    "Unit",
    "UnitLayer",
    "Work",
    "batched",
    "current_request",
    "job",
    "load_settings",
    "problem_replies",
    "step",
    "sync_unit",
    "unit",
]

__version__ = "0.1.0"

_HOMES: Final = {
    "Audit": "workhorse.audited",
    "Caches": "workhorse.caching",
    "Fault": "workhorse.errors",
    "Guard": "workhorse.guard",
    "Leases": "workhorse.caching",
    "Migrations": "workhorse.migrations",
    "Policy": "workhorse.policy",
    "Principal": "workhorse.principal",
    "Problem": "workhorse.errors",
    "Rate": "workhorse.rate",
    "RequestContext": "workhorse.context",
    "Schedule": "workhorse.jobs",
    "Service": "workhorse.service",
    "Settings": "workhorse.settings",
    "Unit": "workhorse.units",
    "UnitLayer": "workhorse.units",
    "Work": "workhorse.units",
    "batched": "workhorse.batches",
    "current_request": "workhorse.context",
    "job": "workhorse.jobs",
    "load_settings": "workhorse.settings",
    "problem_replies": "workhorse.integrations.openapi",
    "step": "workhorse.jobs",
    "sync_unit": "workhorse.units",
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
