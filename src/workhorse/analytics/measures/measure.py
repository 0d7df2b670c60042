"""What is measured, of which events, by what, and over which windows.

    Measure("revenue", of="transfer.posted", by=("currency",), window="1 minute", sum="amount")
    Measure("visits", of="page.read", window=("1 minute", "1 day"), keep=("30 days", None), distinct="visitor")

A definition that is changed gets another `version`, and is counted anew from the beginning of the journal beside the
old one, which goes on until nobody runs it any more.
"""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from workhorse.errors import SettingsError

__all__ = ["Measure", "Window", "path_of", "seconds_of"]

MAX_BY: Final = 8
MAX_DEPTH: Final = 8
MAX_WINDOWS: Final = 4
MAX_KEEP_DAYS: Final = 36_600
SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_PATH: Final = re.compile(r"[A-Za-z0-9_$-]{1,100}(\.[A-Za-z0-9_$-]{1,100})*\Z")
_LENGTH: Final = re.compile(r"(?P<count>[1-9][0-9]{0,4}) (?P<unit>second|minute|hour|day)s?\Z")


@dataclass(frozen=True, slots=True)
class Window:
    """One of the lengths of time that a measure is kept by."""

    key: str
    """Names its rows in the database."""
    seconds: int
    keep_seconds: int | None
    """How old a window becomes before it is deleted; None: it stays."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure over windows of time.

    Every event of a window is counted. A path such as `amount` or `debtor.country` leads to a field of the event's
    data; a value is a JSON number or the text of one, and is added up as it stands, without rounding. Where it is no
    number the event counts as `rejected`, and nowhere else but among the events.

    Args:
        name: names it in the database; it never changes. Lower case letters, digits and `_`.
        of: the type of the events, such as `transfer.posted`, or `transfer.*` for all below.
        by: paths of what is told apart, at most eight. An event without the field has null there.
        window: the least length of time that can be asked for, such as `1 minute` or `15 minutes`, counted from 1970
            in UTC. An event belongs to the window in which it happened, however late it comes. Several, at most four,
            each a multiple of the one before, such as `("1 minute", "1 day")`: what is asked for is read from the
            longest that serves.
        keep: how long windows are kept, such as `90 days`, or one for each window; None: for good. An event of a window
            that is not kept any more is not counted in it.
        sum: the path of what is added up.
        min: the path of that whose least value is kept.
        max: the path of that whose greatest value is kept.
        average: the path of what is averaged.
        distinct: the path of that whose different values are counted, by their text: all of them up to 1,023 in what is
            asked for, beyond that with a standard error of 3.1 % (K minimum values; Beyer et al., SIGMOD 2007).
        quantiles: the path of what is ranked: any quantile can be asked for, and is at most 1 % off the value of that
            rank (DDSketch; Masson et al., VLDB 2019).
        top: the path of that whose most frequent values are kept, by the first 200 characters of their text: all
            values up to 256 in a window, beyond that with a bound on what is missing, which is told (Misra and Gries
            1982; Agarwal et al., PODS 2012).
        version: of this definition.

    Raises:
        SettingsError: a value is malformed.
    """

    name: str
    of: str = field(kw_only=True)
    by: tuple[str, ...] = field(default=(), kw_only=True)
    window: str | tuple[str, ...] = field(default="1 minute", kw_only=True)
    keep: str | tuple[str | None, ...] | None = field(default=None, kw_only=True)
    sum: str | None = field(default=None, kw_only=True)
    min: str | None = field(default=None, kw_only=True)
    max: str | None = field(default=None, kw_only=True)
    average: str | None = field(default=None, kw_only=True)
    distinct: str | None = field(default=None, kw_only=True)
    quantiles: str | None = field(default=None, kw_only=True)
    top: str | None = field(default=None, kw_only=True)
    version: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise SettingsError(f"the measure's name {self.name!r} is not 1 to 63 of a-z, 0-9 and '_', a letter first")
        if len(self.by) > MAX_BY or len(set(self.by)) != len(self.by):
            raise SettingsError(f"the measure {self.name!r} has by={self.by!r}; it is at most {MAX_BY} different paths")
        for path in (*self.by, *self.paths.values()):
            if path is not None:
                path_of(path, self.name)
        if type(self.version) is not int or not 1 <= self.version < 2**31:
            raise SettingsError(f"the measure {self.name!r} has version={self.version!r}; it is a number from 1 on")
        self._check_windows()

    def _check_windows(self) -> None:
        windows = self.windows
        if not 1 <= len(windows) <= MAX_WINDOWS:
            raise SettingsError(f"the measure {self.name!r} has {len(windows)} windows; it has 1 to {MAX_WINDOWS}")
        for shorter, longer in pairwise(windows):
            if longer.seconds <= shorter.seconds or longer.seconds % shorter.seconds:
                raise SettingsError(
                    f"the measure {self.name!r} has window={self.window!r}; each is a multiple of the one before it"
                )
        for window in windows:
            if window.keep_seconds is not None and window.keep_seconds < window.seconds:
                raise SettingsError(f"the measure {self.name!r} has keep={self.keep!r}, which is less than a window")

    @property
    def paths(self) -> dict[str, str | None]:
        """What is measured, each by its path; None: it is not."""
        names = ("sum", "min", "max", "average", "distinct", "quantiles", "top")
        return {name: getattr(self, name) for name in names}

    @property
    def has_sketches(self) -> bool:
        """Whether summaries are kept, which are read by a statement of their own."""
        return any(path is not None for path in (self.distinct, self.quantiles, self.top))

    @property
    def windows(self) -> list[Window]:
        """The lengths of time that it is kept by, the shortest first.

        Raises:
            SettingsError: one is malformed.
        """
        lengths = [self.window] if isinstance(self.window, str) else list(self.window)
        kept = list(self.keep) if isinstance(self.keep, tuple) else [self.keep] * len(lengths)
        if len(kept) != len(lengths):
            raise SettingsError(
                f"the measure {self.name!r} has keep={self.keep!r} for window={self.window!r}; write one for all, or"
                " one for each"
            )
        seconds = [seconds_of(length, self.name) for length in lengths]
        return [
            Window(
                key=self.name if place == 0 else f"{self.name}@{each}",
                seconds=each,
                keep_seconds=None if keep is None else _kept_seconds(keep, self.name),
            )
            for place, (each, keep) in enumerate(zip(seconds, kept, strict=True))
        ]

    @property
    def seconds(self) -> int:
        """The length of the shortest window."""
        return self.windows[0].seconds

    @property
    def feed_name(self) -> str:
        """Names its position in the journal; a version has one of its own, so that both can be counted at once."""
        return f"measure.{self.name}.{self.version}"


def path_of(path: str, measure: str) -> list[str]:
    """The steps of a path into an event's data.

    Raises:
        SettingsError: it is none.
    """
    if not _PATH.match(path) or path.count(".") >= MAX_DEPTH:
        raise SettingsError(
            f"the measure {measure!r} has the path {path!r}; write names with dots between, such as 'debtor.country',"
            f" {MAX_DEPTH} at most"
        )
    return path.split(".")


def seconds_of(window: str, measure: str) -> int:
    """The seconds of a window such as `15 minutes`.

    Raises:
        SettingsError: it is none, or longer than a year.
    """
    seconds = _length(window, f"the measure {measure!r} has window={window!r}")
    if seconds > 366 * SECONDS["day"]:
        raise SettingsError(f"the measure {measure!r} has window={window!r}; a year is the longest")
    return seconds


def _kept_seconds(keep: str, measure: str) -> int:
    seconds = _length(keep, f"the measure {measure!r} has keep={keep!r}")
    if seconds > MAX_KEEP_DAYS * SECONDS["day"]:
        raise SettingsError(f"the measure {measure!r} has keep={keep!r}; {MAX_KEEP_DAYS} days are the longest")
    return seconds


def _length(text: str, told: str) -> int:
    match = _LENGTH.match(text)
    if match is None:
        raise SettingsError(
            f"{told}; write a number and second, minute, hour or day, such as '1 minute' or '15 minutes'"
        )
    return int(match["count"]) * SECONDS[match["unit"]]
