"""What happened around one crash, whether it may have happened, and how it is told. Pure.

The copy of the database that saw no crash says what the whole effect is. Of every other one it is asked:

- at rest after the crash, the effect is there wholly or not at all;
- a client that was answered before the crash was told the truth;
- the request sent again gets one and the same reply, however often, and the one that the first run gives;
- in the end the effect is there once;
- the test's own invariants hold, after the crash and in the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from workhorse.testing.conversation import MomentKind
from workhorse.testing.crash.effects import Effects, difference
from workhorse.testing.crash.request import Reply

__all__ = ["CrashTestFailed", "History", "Point", "Report", "judge"]

MAX_SHOWN = 3


class CrashTestFailed(AssertionError):
    """A crash broke a promise. The message tells each history; `report` has them all."""

    def __init__(self, report: "Report") -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True, slots=True)
class Point:
    """Where the process is killed: the so-manieth moment of the request, from 1, and what it is about."""

    number: int
    kind: MomentKind
    trip: int
    """The round trip's number within the request."""
    statements: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = {
            MomentKind.ROUND_TRIP_SENT: f"before round trip {self.trip}",
            MomentKind.COMMIT_SENT: f"before the COMMIT in round trip {self.trip}",
            MomentKind.ROUND_TRIP_ANSWERED: f"after round trip {self.trip} was done",
        }.get(self.kind, f"at {self.kind}")
        shown = [text if len(text) < 60 else text[:57] + "..." for text in self.statements if text]
        more = f"; and {len(shown) - MAX_SHOWN} more" if len(shown) > MAX_SHOWN else ""
        return f"{where} ({'; '.join(shown[:MAX_SHOWN])}{more})"


@dataclass(slots=True, kw_only=True)
class History:
    """One run: up to the crash, after it, and to the end."""

    point: Point | None
    """None: nothing was killed."""
    reached: bool = False
    """Whether the run came to the point at all."""
    heard: Reply | None = None
    """What the client was told before the crash."""
    crashed: Effects | None = None
    """The database at rest after the crash."""
    retries: list[Reply] = field(default_factory=list[Reply])
    """What it was told when it asked again."""
    final: Effects | None = None
    broken: list[str] = field(default_factory=list[str])
    """Invariants that did not hold, and what else went wrong."""

    def tell(self, before: Effects, after: Effects) -> str:
        """The history in one line."""
        words = ["request sent", f"answered {self.heard}" if self.heard else "no answer"]
        if self.point is not None:
            words[1:1] = [] if self.heard else ["killed"]
            words += ["killed"] if self.heard else []
            words.append(f"then {_state(self.crashed, before, after)}")
            words += [f"sent again: {reply}" for reply in self.retries]
            words.append(f"in the end {_state(self.final, before, after)}")
        return " -> ".join(words)


@dataclass(slots=True)
class Report:
    """All histories of one crash test. Its text is for the person who reads the failure."""

    subject: str
    before: Effects
    after: Effects
    histories: list[History]
    faults: list[tuple[History, list[str]]]
    seconds: float = 0.0

    @property
    def points(self) -> int:
        """How many crash points the run without a crash has."""
        return sum(history.point is not None for history in self.histories)

    @property
    def tried(self) -> int:
        """At how many of them the process was killed."""
        return sum(history.reached for history in self.histories)

    @property
    def passed(self) -> bool:
        """Whether no promise was broken."""
        return not self.faults

    def __str__(self) -> str:
        counts = f"{self.points} crash points, {self.tried} killed at, {len(self.faults)} broken"
        lines = [f"{self.subject}: {counts} ({self.seconds:.0f} s)"]
        for history, sentences in self.faults:
            lines.append(f"  killed {history.point}:" if history.point else "  without any crash:")
            lines += [f"    - {sentence}" for sentence in sentences]
            lines.append(f"    history: {history.tell(self.before, self.after)}")
        lines += [
            f"  not reached: {history.point}" for history in self.histories if history.point and not history.reached
        ]
        return "\n".join(lines)


def judge(history: History, *, before: Effects, plain: History, atomic: bool) -> list[str]:
    """Each promise that was broken, as a sentence.

    Args:
        history: the run.
        before: the database at first.
        plain: the run in which nothing was killed.
        atomic: whether the effect must be there wholly or not at all after a crash.
    """
    faults = list(history.broken)
    after = plain.final
    assert after is not None
    if history.point is None:
        return faults
    if history.crashed is not None:
        missing = difference(history.crashed, after)
        if history.heard is not None and history.heard.status < 400 and missing:
            faults.append(f"the client was told {history.heard.status}, and after the crash {_and(missing)}")
        elif atomic and missing and (begun := difference(history.crashed, before)):
            faults.append(f"after the crash the effect is half done: {_and(begun)}; and yet {_and(missing)}")
    settled = history.heard is not None or history.retries  # else nobody knows whether it should be there
    if history.final is not None and settled and (wrong := difference(history.final, after)):
        faults.append(f"in the end {_and(wrong)}")
    return faults + _judge_replies(history, plain)


def _judge_replies(history: History, plain: History) -> list[str]:
    replies = [*([history.heard] if history.heard is not None and history.heard.status < 500 else []), *history.retries]
    if len(set(replies)) > 1:
        return [f"the client got different replies: {_and([str(reply) for reply in replies])}"]
    if replies and plain.heard is not None and replies[0].status != plain.heard.status:
        return [f"the client got {replies[0]}, and without a crash {plain.heard}"]
    return []


def _state(found: Effects | None, before: Effects, after: Effects) -> str:
    if found is None:
        return "unknown"
    if not difference(found, after):
        return "all done"
    return _and(difference(found, after)) if difference(found, before) else "nothing done"


def _and(sentences: Sequence[str]) -> str:
    return ", ".join(sentences)
