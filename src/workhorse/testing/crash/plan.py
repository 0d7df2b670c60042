"""What one crash test does, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workhorse.testing.crash.effects import Invariant
from workhorse.testing.crash.request import Request

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, what is asked of it, and what must hold."""

    subject: str
    """What the report calls it."""
    command: tuple[str, ...]
    """What is run. For a server, `{host}` and `{port}` are filled in."""
    request: Request | None
    """What is sent; None for a program that ends by itself."""
    invariants: tuple[Invariant, ...]
    outcome: tuple[str, ...]
    ignore: tuple[str, ...]
    atomic: bool
    thorough: bool
    environment: Mapping[str, str]
    folder: Path
    scratch: Path
    ports: set[int] = field(default_factory=set[int])
    """Those that were given out already. Two servers on one port would share its connections in silence."""
