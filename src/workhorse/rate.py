"""A rate limit as it is written, and as the stores take it.

    Rate("600/minute")                      600 at once, then one every tenth of a second
    Rate("10/second", burst=20)             20 at once, then one every tenth of a second
    Rate("5/minute", per="address")         of one network address, whoever calls

The algorithm is the generic cell rate algorithm (ITU-T I.371; a leaky bucket as a meter). It keeps one time a caller,
the theoretical arrival time, and has no window at whose edge twice the limit passes: in any span of t seconds at most
`burst + t / interval` requests are admitted.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from workhorse.errors import SettingsError

__all__ = ["Per", "Quota", "Rate", "StoreAway"]

Per: TypeAlias = Literal["caller", "key", "address", "route"]
"""Whose requests are counted together: those of one principal (an anonymous one by its address), of one credential,
of one network address, or of all."""

StoreAway: TypeAlias = Literal["refuse", "admit"]
"""What happens while the store of the counters cannot be reached."""

# A time since 1970 and this together stay below 2**53, up to which the numbers of Redis's scripts are exact.
MAX_FILL_US: Final = 100 * 366 * 86_400 * 1_000_000
SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE: Final = re.compile(
    r"^(?P<limit>[1-9][0-9]{0,8})/(?:(?P<count>[1-9][0-9]{0,4}) ?)?(?P<unit>second|minute|hour|day)s?\Z"
)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so much time.

    Args:
        limit: `600/minute`, `10/second`, `1000/15 minutes`.
        burst: how many may come at once; by default as many as the limit.
        per: whose requests are counted together.
        store_away: what happens while the counters' store cannot be reached: `refuse` (503), or `admit`, counted
            by each process alone.

    Raises:
        SettingsError: the limit or the burst is malformed.
    """

    limit: str
    burst: int | None = field(default=None, kw_only=True)
    per: Per = field(default="caller", kw_only=True)
    store_away: StoreAway = field(default="refuse", kw_only=True)

    def __post_init__(self) -> None:
        if not _RATE.match(self.limit):
            raise SettingsError(
                f"the rate {self.limit!r} is not LIMIT/PERIOD; write for example `600/minute` or `1000/15 minutes`"
            )
        if self.burst is not None and not 1 <= self.burst <= 1_000_000_000:
            raise SettingsError(f"the rate {self.limit!r} has burst={self.burst}; it is at least 1")
        if self.interval_us * self.capacity > MAX_FILL_US:
            raise SettingsError(
                f"the rate {self.limit!r} with a burst of {self.capacity} would take more than a hundred years to have"
                " its whole burst again; lower the burst"
            )
        if self.per not in {"caller", "key", "address", "route"}:
            raise SettingsError(f"the rate {self.limit!r} has per={self.per!r}; it is caller, key, address or route")
        if self.store_away not in {"refuse", "admit"}:
            raise SettingsError(f"the rate {self.limit!r} has store_away={self.store_away!r}; it is refuse or admit")

    @property
    def requests(self) -> int:
        """How many in `period_seconds`."""
        match = _RATE.match(self.limit)
        assert match is not None
        return int(match["limit"])

    @property
    def period_seconds(self) -> int:
        """The period."""
        match = _RATE.match(self.limit)
        assert match is not None
        return int(match["count"] or 1) * SECONDS[match["unit"]]

    @property
    def interval_us(self) -> int:
        """Microseconds from one request to the next at the sustained rate; rounded up, so never over the limit."""
        return -(-self.period_seconds * 1_000_000 // self.requests)

    @property
    def capacity(self) -> int:
        """How many may come at once."""
        return self.requests if self.burst is None else self.burst


class Quota(NamedTuple):
    """One counter that a request takes from."""

    key: str
    """Names the counter in the store: the limit, and whose it is. At most 200 characters, no secrets."""
    interval_us: int
    """Microseconds from one request to the next at the sustained rate."""
    capacity: int
    """How many may come at once."""
