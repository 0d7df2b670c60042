"""A contestant, built."""

from collections.abc import Callable
from dataclasses import dataclass

from workhorse.asgi import ASGIApp

__all__ = ["Built"]


def nothing() -> None:
    """Flush what has no buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An app with its layers, ready to serve."""

    app: ASGIApp
    csrf: str = ""
    """The token against cross-site requests that it takes; empty: that of starlette-csrf."""
    controls: frozenset[str] = frozenset()
    """What it guards against, which is tried before it is measured (see `benchmarks.guard.probes`)."""
    remembers_tokens: bool = False
    """Whether it is slower as long as it has not seen all tokens once."""
    settle_seconds: float = 0.0
    """How long it takes until what it has buffered is written: the warm-up's part is not to be measured."""
    flush: Callable[[], None] = nothing
    """Writes out at once what it has buffered: that work belongs to the requests measured."""
