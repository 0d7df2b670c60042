"""Deletions that did not reach the store: they are made up for before it is asked anything else.

A store that was away comes back with what it had, old values among it. This process knows which of them it meant to
delete, so it does that first. Others do not know; to them an old value shows until its time is over.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

__all__ = ["Debt", "Owed"]

# As many as a store takes in one call.
AT_ONCE: Final = 1_000


class Debt(NamedTuple):
    """Some of what is owed. A number tells when it was noted."""

    keys: dict[str, int]
    tags: dict[str, int]


class Owed:
    """Keys and tags to delete, each up to a bound, beyond which the oldest are given up to their time to live.

    Args:
        most: keys at most, and tags at most.
    """

    __slots__ = ("_keys", "_most", "_serial", "_tags")

    def __init__(self, *, most: int = 10_000) -> None:
        self._most = most
        self._serial = 0
        self._keys: OrderedDict[str, int] = OrderedDict()
        self._tags: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        """How many are owed."""
        return len(self._keys) + len(self._tags)

    def note(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        """Note a deletion that may not have reached the store."""
        self._serial += 1
        for owed, names in ((self._keys, keys), (self._tags, tags)):
            for name in names:
                owed[name] = self._serial
                owed.move_to_end(name)
            while len(owed) > self._most:
                owed.popitem(last=False)

    def some(self) -> Debt:
        """The oldest of them, as many as the store takes at once."""
        keys = dict(islice(self._keys.items(), AT_ONCE))
        return Debt(keys, dict(islice(self._tags.items(), AT_ONCE - len(keys))))

    def settle(self, debt: Debt) -> None:
        """Note that it was deleted. What was noted again meanwhile is still owed."""
        for owed, paid in ((self._keys, debt.keys), (self._tags, debt.tags)):
            for name, serial in paid.items():
                if owed.get(name) == serial:
                    del owed[name]
