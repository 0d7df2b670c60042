"""What a user's tests need: real servers, a wire that breaks on command, and crashes at every point that matters.

    def test_a_transfer_survives_every_crash(crash_test: CrashTest) -> None:
        request = Request("POST", "/transfers", json={...}, key="transfer-1")
        crash_test.run("bank.app:service", request=request, invariant=books_balance)

The fixtures are in `plugin`, which pytest loads by itself. The names below are loaded when they are first used: pytest
imports this package in every run, of whatever project it is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from workhorse.testing.client import service_client
    from workhorse.testing.crash import CrashTest, CrashTestFailed, Reply, Report, Request
    from workhorse.testing.databases import copy_database, migrated_database
    from workhorse.testing.faults import Fault
    from workhorse.testing.plugin import AsCaller, ServiceClient
    from workhorse.testing.proxy import FaultProxy

__all__ = [
    "AsCaller",
    "CrashTest",
    "CrashTestFailed",
    "Fault",
    "FaultProxy",
    "Reply",
    "Report",
    "Request",
    "ServiceClient",
    "copy_database",
    "migrated_database",
    "service_client",
]

_HOMES: Final = {
    "AsCaller": "workhorse.testing.plugin",
    "CrashTest": "workhorse.testing.crash",
    "CrashTestFailed": "workhorse.testing.crash",
    "Fault": "workhorse.testing.faults",
    "FaultProxy": "workhorse.testing.proxy",
    "Reply": "workhorse.testing.crash",
    "Report": "workhorse.testing.crash",
    "Request": "workhorse.testing.crash",
    "ServiceClient": "workhorse.testing.plugin",
    "copy_database": "workhorse.testing.databases",
    "migrated_database": "workhorse.testing.databases",
    "service_client": "workhorse.testing.client",
}


def __getattr__(name: str) -> Any:
    """Load a name of the front door from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'workhorse.testing' has no attribute {name!r}; it offers: {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
