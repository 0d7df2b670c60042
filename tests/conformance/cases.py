"""The apps of the suite, and what each framework cannot do."""

from dataclasses import dataclass, field
from typing import Final, Literal

import pytest

from tests.conformance.apps import blacksheep, django, falcon, fastapi, litestar, quart, raw, starlette
from tests.conformance.contract import Make

__all__ = ["CASES", "Case", "having"]


@dataclass(frozen=True)
class Case:
    """One app of the suite."""

    name: str
    make: Make
    prefix: str = ""
    """Where the contract begins in it."""
    lacks: frozenset[str] = field(default_factory=frozenset)
    """What its framework, or the way it is mounted, does not have."""
    runtime: Literal["asyncio", "trio"] = "asyncio"
    """What it is served on."""


def lacking(*features: str) -> frozenset[str]:
    return frozenset(features)


CASES: Final = (
    Case("raw", raw.make, lacks=lacking("range")),
    Case("starlette", starlette.make),
    Case("fastapi", fastapi.make),
    Case("litestar", litestar.make, lacks=lacking("range", "pathsend")),
    Case("quart", quart.make, lacks=lacking("pathsend", "latin-1")),
    # A handler of Falcon's does not hear of its client; its streams, and BlackSheep's, only where sending fails.
    Case("falcon", falcon.make, lacks=lacking("range", "pathsend", "wait", "listening")),
    Case("blacksheep", blacksheep.make, lacks=lacking("range", "pathsend", "background", "listening")),
    # Django has neither lifespan nor WebSockets: FastAPI has them, around it. It answers its errors by itself.
    Case(
        "fastapi-django",
        django.make,
        prefix="/django",
        lacks=lacking("range", "pathsend", "background", "socket", "early", "length", "problems"),
    ),
    Case("starlette-raw", starlette.make_mounting, prefix="/inner", lacks=lacking("range")),
    Case("raw-on-trio", raw.make, lacks=lacking("range"), runtime="trio"),
    Case("starlette-on-trio", starlette.make, runtime="trio"),
    Case("fastapi-on-trio", fastapi.make, runtime="trio"),
)


def having(feature: str) -> pytest.MarkDecorator:
    """Give a test the apps that can do this."""
    cases = [case for case in CASES if feature not in case.lacks]
    return pytest.mark.parametrize("running", cases, ids=lambda case: case.name, indirect=True)
