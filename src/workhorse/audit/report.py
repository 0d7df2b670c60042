"""What a verifier found, as a value: what is wrong, where exactly, and what still holds.

`Report.ok` is true only if everything that was asked for was looked at and nothing was found. What was not looked at is
said: `events` is None where the export had none.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

__all__ = ["Fault", "Finding", "Report", "moment_text", "render_report"]


class Fault(StrEnum):
    """What was done to a log or to its events."""

    CHANGED = "changed"
    """An event is not what the log says of it."""
    REMOVED = "removed"
    """An event that the log has is missing."""
    INSERTED = "inserted"
    """An event that the log has not; or it was not sealed yet."""
    REORDERED = "reordered"
    """An event stands where the log has another."""
    UNREADABLE = "unreadable"
    """A line is no event."""
    ENTRY_CHANGED = "entry changed"
    """An entry of the log is not the one that was signed."""
    ENTRIES_MISSING = "entries missing"
    """A bundle of entries is missing, or is none."""
    TILE_CHANGED = "tile changed"
    """A tile of hashes is not the one that was signed."""
    TILE_MISSING = "tile missing"
    """A tile of hashes is missing, or is none."""
    CHECKPOINT = "checkpoint"
    """A checkpoint is missing, malformed, or not signed as asked."""
    ROOT = "root"
    """The entries do not make the root that was signed, and it cannot be told which of them."""
    FORKED = "forked"
    """The log signed two histories: two of its checkpoints exclude each other. Keep both: they prove it."""
    ROLLED_BACK = "rolled back"
    """The export ends before a checkpoint that somebody has kept."""
    TOO_MANY = "too many"
    """More is wrong than can be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    fault: Fault
    message: str
    index: int | None = None
    """In the log, from 0; the first, if they are several."""
    end: int | None = None
    """One after the last, if they are several."""
    event_id: str | None = None
    differs: tuple[str, ...] = ()
    """The fields of the event that differ."""

    def __str__(self) -> str:
        where = (
            "" if self.index is None else f" {self.index}" if self.end is None else f" {self.index} to {self.end - 1}"
        )
        event = "" if self.event_id is None else f" {self.event_id}"
        return f"{self.fault}{where}{event}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of a verification."""

    origin: str
    size: int | None
    """Entries of the log, by the checkpoint that was verified against; None if there was none to believe."""
    root: bytes | None
    witnesses: dict[str, int]
    """Which known witnesses signed that checkpoint, and when, in seconds since 1970."""
    entries: int
    """How many entries were read and found to be those that were signed."""
    events: int | None
    """How many events agree with their entries; None if the export has no events."""
    checkpoints: int
    """How many checkpoints were verified, that one and anchors included."""
    last_good: int | None
    """The size of the largest checkpoint up to which nothing was found to be wrong; None if there is none."""
    findings: tuple[Finding, ...]
    unlisted: int
    """How many findings more there were."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings and self.size is not None


def render_report(report: Report) -> str:
    """The report for people."""
    lines = [f"log         {report.origin}"]
    if report.size is not None and report.root is not None:
        lines += [f"entries     {report.entries} of {report.size} are as signed", f"root        {report.root.hex()}"]
    has_none = "not checked: the export has none"
    events = has_none if report.events is None else f"{report.events} agree with their entries"
    lines += [f"events      {events}", f"checkpoints {report.checkpoints} verified"]
    for name, seconds in sorted(report.witnesses.items()):
        lines.append(f"witness     {name} at {moment_text(seconds)}")
    if not report.witnesses:
        lines.append("witness     none: this proves nothing against whoever has the log's private key")
    if report.findings:
        lines += ["", *(f"- {finding}" for finding in report.findings)]
        if report.unlisted:
            lines.append(f"- and {report.unlisted} more")
        good = "no checkpoint" if report.last_good is None else f"the checkpoint of {report.last_good} entries"
        lines += ["", f"good up to  {good}"]
    lines += ["", "OK" if report.ok else "NOT OK"]
    return "\n".join(lines)


def moment_text(seconds: int) -> str:
    """A time in seconds since 1970, for people; a witness may have signed one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after 1970"
