"""What a WebSocket may send once it is open: how large a message is, and how many come.

A handshake passes the guard like any request (`checks.csrf.check_handshake` asks for its origin); what follows does
not, because messages are no requests. One meter a connection counts them, by the same algorithm as the rate limits
(see `workhorse.rate`), in this process alone: a connection lives in one.
"""

from dataclasses import dataclass
from typing import Final

from workhorse.asgi import Message
from workhorse.errors import SettingsError

__all__ = ["OVER_RATE", "TOO_BIG", "MessageMeter", "WebSocketRules", "compile_websocket"]

# RFC 6455, section 7.4.1.
OVER_RATE: Final = 1008
TOO_BIG: Final = 1009


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketRules:
    """What one connection may send."""

    message_bytes: int
    interval_seconds: float
    """From one message to the next at the sustained rate."""
    ahead_seconds: float
    """How far a burst may be ahead of that rate."""


def compile_websocket(
    *, message_bytes: int = 1024 * 1024, messages_per_second: float = 100, burst: int | None = None
) -> WebSocketRules:
    """Compile what one connection may send.

    Args:
        message_bytes: size of the largest message; of a text, as UTF-8.
        messages_per_second: messages at the sustained rate.
        burst: how many may come at once; None: those of ten seconds.

    Raises:
        SettingsError: a value is out of its range.
    """
    if message_bytes < 1:
        raise SettingsError(f"guard.max_message_bytes is {message_bytes}; it is 1 or more, as a rule 1048576")
    if messages_per_second <= 0:
        raise SettingsError(f"guard.messages_per_second is {messages_per_second}; it is more than 0, as a rule 100")
    most = max(1, int(messages_per_second * 10)) if burst is None else burst
    if most < 1:
        raise SettingsError(f"the burst of WebSocket messages is {most}; it is 1 or more, or None for ten seconds'")
    interval = 1 / messages_per_second
    return WebSocketRules(
        message_bytes=message_bytes,
        interval_seconds=interval,
        # A millionth more, or the rounding of a sum of intervals would take the last message of a burst.
        ahead_seconds=(most - 1 + 1e-6) * interval,
    )


class MessageMeter:
    """Counts the messages of one connection.

    Threat: a connection, once let in, that fills memory or takes all the time of the process (CWE-770, CWE-799).
    Method: the size of each message; GCRA over their number.
    Assumes: the server puts fragments together within a limit of its own, and not far above this one.
    Standard: RFC 6455, sections 7.4.1 and 10.4; OWASP ASVS 5.0.0 V2.4.1 and V15.2.2; OWASP API4:2023.
    """

    __slots__ = ("_ahead", "_due", "_interval", "_most")

    def __init__(self, rules: WebSocketRules) -> None:
        self._most = rules.message_bytes
        self._interval = rules.interval_seconds
        self._ahead = rules.ahead_seconds
        self._due = 0.0

    def take(self, message: Message, now: float) -> int:
        """Count a `websocket.receive`: 0 lets it pass, otherwise the code to close the connection with.

        Args:
            message: what came.
            now: when, in seconds of a clock that never goes back.
        """
        if _size(message) > self._most:
            return TOO_BIG
        due = self._due
        if due < now:
            due = now
        elif due - now > self._ahead:
            return OVER_RATE
        self._due = due + self._interval
        return 0


def _size(message: Message) -> int:
    text: str | None = message.get("text")
    data: bytes | None = message.get("bytes")
    size = len(data) if data is not None else 0
    if text is not None:
        # That a text is ASCII is known by a flag; only others have to be encoded to know their size.
        size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size
