"""What the nest is told on standard input, and what it says on standard output: JSON, a line each."""

from typing import Literal

import msgspec

from benchmarks.guard.traffic import Credentials, Method

__all__ = ["Figure", "Mode", "Order"]

Mode = Literal["count", "time", "profile"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    mode: Mode
    contestants: tuple[str, ...]
    credentials: Credentials
    requests: int
    """How many requests of each method are measured: in all where instructions are counted, else in each round."""
    warmup: int
    """Requests of each method before that; contestants that remember tokens see all that they will meet."""
    rounds: int = 1
    counts: str = ""
    """The folder in which callgrind leaves its files."""
    source_only: bool = True
    """Whether to run our code as plain Python even where a compiled build of it is there."""


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one contestant cost in one round; or why it has no figure."""

    contestant: str
    method: Method = "GET"
    per_request: float = 0.0
    """Instructions, or microseconds of CPU time."""
    failed: str = ""
