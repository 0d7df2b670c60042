"""What is measured, of which events, by what, and over which windows.

    Measure("revenue", of="transfer.posted", by=("currency",), window="1 minute", sum="amount")

A definition that is changed gets another `version`, and is counted anew from the beginning of the journal beside the
old one, which goes on until nobody runs it any more.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from workhorse.errors import SettingsError

__all__ = ["Measure", "path_of", "seconds_of"]

MAX_BY: Final = 8
MAX_DEPTH: Final = 8
SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_PATH: Final = re.compile(r"[A-Za-z0-9_$-]{1,100}(\.[A-Za-z0-9_$-]{1,100})*\Z")
_WINDOW: Final = re.compile(r"(?P<count>[1-9][0-9]{0,3}) (?P<unit>second|minute|hour|day)s?\Z")


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
            in UTC. An event belongs to the window in which it happened, however late it comes.
        sum: the path of what is added up.
        min: the path of that whose least value is kept.
        max: the path of that whose greatest value is kept.
        average: the path of what is averaged.
        version: of this definition.

    Raises:
        SettingsError: a value is malformed.
    """

    name: str
    of: str = field(kw_only=True)
    by: tuple[str, ...] = field(default=(), kw_only=True)
    window: str = field(default="1 minute", kw_only=True)
    sum: str | None = field(default=None, kw_only=True)
    min: str | None = field(default=None, kw_only=True)
    max: str | None = field(default=None, kw_only=True)
    average: str | None = field(default=None, kw_only=True)
    version: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise SettingsError(f"the measure's name {self.name!r} is not 1 to 63 of a-z, 0-9 and '_', a letter first")
        if len(self.by) > MAX_BY or len(set(self.by)) != len(self.by):
            raise SettingsError(f"the measure {self.name!r} has by={self.by!r}; it is at most {MAX_BY} different paths")
        for path in (*self.by, self.sum, self.min, self.max, self.average):
            if path is not None:
                path_of(path, self.name)
        if type(self.version) is not int or not 1 <= self.version < 2**31:
            raise SettingsError(f"the measure {self.name!r} has version={self.version!r}; it is a number from 1 on")
        seconds_of(self.window, self.name)

    @property
    def seconds(self) -> int:
        """The length of a window."""
        return seconds_of(self.window, self.name)

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
    match = _WINDOW.match(window)
    if match is None:
        raise SettingsError(
            f"the measure {measure!r} has window={window!r}; write a number and second, minute, hour or day, such as"
            " '1 minute' or '15 minutes'"
        )
    seconds = int(match["count"]) * SECONDS[match["unit"]]
    if seconds > 366 * SECONDS["day"]:
        raise SettingsError(f"the measure {measure!r} has window={window!r}; a year is the longest")
    return seconds
