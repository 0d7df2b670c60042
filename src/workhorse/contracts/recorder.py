"""Where rooms that know no journal record what they have done: logins, above all."""

from typing import Protocol

__all__ = ["Recorder"]


class Recorder(Protocol):
    """Records events that have no unit to commit with."""

    def tell(self, kind: str, *, subject: str, data: object = None) -> None:
        """Record an event soon; nobody waits for it. Takes what `record` takes, and never raises a `Problem`."""
        ...

    async def record(self, kind: str, *, subject: str, data: object = None) -> None:
        """Record an event.

        Args:
            kind: its type, such as `audit.login`.
            subject: whom it is about.
            data: the facts, as anything that JSON can say.

        Raises:
            Problem: 503, where nothing may happen without its record, and it could not be stored.
        """
        ...
