"""Where a client stands: what it gives as Last-Event-ID, and any process of the service understands.

A position is when the counting of a measure began, and the greatest revision of a row that the client has; a stream of
several measures has one for each. Both are the database's, so a client may go on at another process than the one that
it was at.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["NOWHERE", "Position", "format_positions", "parse_positions"]

MAX_CHARACTERS: Final = 1_000
_POSITION: Final = re.compile(r"(?P<began>[0-9]{1,18})\.(?P<revision>[0-9]{1,18})\Z")


class Position(NamedTuple):
    """How much of one measure a client has."""

    began: int
    """When its counting began, in milliseconds since 1970; 0: it is not counted yet. Another one: all is new."""
    revision: int
    """The greatest of the rows that it has."""


NOWHERE: Final = Position(-1, -1)
"""It has nothing."""


def format_positions(positions: Iterable[Position]) -> str:
    """As the id of an event."""
    return "_".join(f"{began}.{revision}" for began, revision in positions)


def parse_positions(text: str, count: int) -> tuple[Position, ...] | None:
    """Read the id of an event of `count` measures. None: it is none, so the client is told all."""
    if len(text) > MAX_CHARACTERS:
        return None
    found = [_POSITION.match(part) for part in text.split("_")]
    if len(found) != count:
        return None
    positions = tuple(Position(int(one["began"]), int(one["revision"])) for one in found if one is not None)
    return positions if len(positions) == count else None
