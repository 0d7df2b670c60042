"""Entries of a Redis stream whose ids we make, so that the server refuses a repeat by itself.

The server takes an id only if it is greater than all that the stream had (XADD). An entry that it refuses is looked up:
if it is ours it was published before, by a process that was killed before it could note that.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from workhorse.errors import StoreUnavailable, WorkhorseError
from workhorse.state.redis.connection import Client, ask

__all__ = ["Entry", "StreamTaken", "publish"]

TIMEOUT_SECONDS: Final = 5.0
REFUSED: Final = "equal or smaller"


class Entry(NamedTuple):
    """One entry."""

    place: tuple[int, int]
    """Its id in the stream, both parts."""
    event_id: str
    fields: Sequence[str | bytes]
    """Names and values in turn; `id` is the first of them."""


class StreamTaken(WorkhorseError):
    """Somebody else writes to the stream, or wrote to it, with greater ids: ours would be refused for ever."""

    def __init__(self, stream: str, place: str, last: str) -> None:
        super().__init__(
            f"the stream {stream!r} has entries up to {last}, and refuses {place}, which it does not have: others write"
            " to it. Give the relay a stream of its own"
        )


async def publish(client: Client, stream: str, entry: Entry, *, max_length: int | None) -> bool:
    """Append an entry. False: it is there already.

    Raises:
        StoreUnavailable: the server is away.
        StreamTaken: the stream has ids that are not ours.
    """
    place = f"{entry.place[0]}-{entry.place[1]}"
    bound: list[str | bytes | int] = ["MAXLEN", "~", max_length] if max_length is not None else []
    try:
        await ask(client, "XADD", stream, *bound, place, *entry.fields, timeout_seconds=TIMEOUT_SECONDS)
    except StoreUnavailable as error:
        if REFUSED not in str(error.__cause__):
            raise
    else:
        return True
    found: Any = await ask(client, "XRANGE", stream, place, place, timeout_seconds=TIMEOUT_SECONDS)
    if found:
        fields: Any = found[0][1]  # in a list by RESP 2, in a dict as the driver may make of it
        given: Any = next(iter(fields.values())) if hasattr(fields, "values") else fields[1]
        if _text(given) == entry.event_id:
            return False
        raise StreamTaken(stream, place, place)
    # It may have been published and trimmed since: then the last entry is of the same beginning of the feed.
    latest: Any = await ask(client, "XREVRANGE", stream, "+", "-", "COUNT", 1, timeout_seconds=TIMEOUT_SECONDS)
    last = _text(latest[0][0]) if latest else "none"
    if last.partition("-")[0] == str(entry.place[0]):
        return False
    raise StreamTaken(stream, place, last)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
