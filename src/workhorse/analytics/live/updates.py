"""What a client is sent, in the two forms that it travels in.

As Server-Sent Events (WHATWG HTML, section 9.2) an update is an event with an id, which browsers give back as
Last-Event-ID; over a WebSocket it is a text of JSON with the same three parts.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

from workhorse.analytics.live.shown import Shown

__all__ = ["FRESH", "HEARTBEAT", "STALE", "Update", "describe"]


class Update:
    """One event.

    Args:
        event: `snapshot`: all there is, in place of what the client has. `change`: rows to put in place of those of the
            same window that are counted by the same. `stale` and `fresh`: the database is away, and back again.
        data: JSON, on one line.
        id_: where the client stands with it; empty where it was.
    """

    def __init__(self, event: str, data: str, id_: str = "") -> None:
        self.event: Final = event
        self.data: Final = data
        self.id: Final = id_

    @cached_property
    def sse(self) -> bytes:
        """As an event of a stream."""
        if not self.event:
            return b":\n\n"
        first = f"id: {self.id}\n" if self.id else ""
        return f"{first}event: {self.event}\ndata: {self.data}\n\n".encode()

    @cached_property
    def text(self) -> str:
        """As a message of a WebSocket."""
        return f'{{"event":{json.dumps(self.event or "heartbeat")},"id":{json.dumps(self.id)},"data":{self.data}}}'


HEARTBEAT: Final = Update("", "{}")
"""Says nothing but that the stream is open: in a stream a comment, which browsers pass over."""
STALE: Final = Update("stale", "{}")
FRESH: Final = Update("fresh", "{}")


def describe(parts: Mapping[str, tuple[Shown, int, list[str]]]) -> str:
    """The data of an update: of each measure its window in seconds, the first window that is shown, and rows."""
    return (
        "{"
        + ",".join(
            f'{json.dumps(name)}:{{"window":{seconds},"since":"{_moment(shown.since)}","rows":[{",".join(rows)}]}}'
            for name, (shown, seconds, rows) in parts.items()
        )
        + "}"
    )


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
