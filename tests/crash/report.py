"""What a soak prints at its end: a table of the blows and the claims. Pure: what is printed is decided here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.figures import Claim
from tests.crash.blows import RECOVERY_SECONDS
from tests.crash.clients import BOOKS_SECONDS
from tests.crash.kills import Wound, describe
from tests.crash.siege import JOBS_SECONDS, LEASE_SECONDS, Aftermath

__all__ = ["ORPHANED_SECONDS", "Round", "claims", "report"]

# What a dead worker held is back within its lease and a beat of another. To that comes what the siege adds: times in
# which there is no database to say so in, or in which the others are dead or frozen too.
ORPHANED_SECONDS: Final = LEASE_SECONDS + 26.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One siege of a soak, judged."""

    seed: int
    wounds: list[Wound]
    faults: dict[str, list[str]]
    unfinished: str = ""
    """Why it ended before its time, if it did."""
    wishes: int = 0
    transfers: int = 0
    compared: int = 0
    sent_again: int = 0
    jobs: int = 0
    taken_back: int = 0
    payments: int = 0
    days: int = 0
    orphaned_seconds: float = 0.0
    quiet_seconds: float = 0.0
    books_seconds: float = 0.0
    seconds: float = 0.0

    @classmethod
    def of(cls, seed: int, aftermath: Aftermath) -> "Round":
        """Judge a siege."""
        return cls(
            seed=seed,
            wounds=aftermath.wounds,
            faults=aftermath.faults(),
            wishes=len(aftermath.witness.orders),
            transfers=aftermath.found.all_transfers,
            compared=aftermath.witness.compared,
            sent_again=aftermath.witness.sent_again,
            jobs=aftermath.found.finished_jobs,
            taken_back=aftermath.found.taken_back,
            payments=len(aftermath.found.payments),
            days=len(aftermath.found.reports),
            orphaned_seconds=aftermath.watch.oldest_orphan,
            quiet_seconds=aftermath.quiet_seconds,
            books_seconds=aftermath.witness.oldest_books,
            seconds=aftermath.seconds,
        )

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.unfinished and not any(self.faults.values())


def claims(rounds: Sequence[Round], *, kills: int | None) -> list[Claim]:
    """What the bank stands for under fire: no fault of any kind, and everything back within its bound.

    Args:
        rounds: all that were begun.
        kills: how many were wanted; None where the time decided.
    """
    wounds = [wound for one in rounds for wound in one.wounds]
    faults: Counter[str] = Counter()
    for one in rounds:
        faults.update({promise: len(found) for promise, found in one.faults.items()})
    return [
        *([] if kills is None else [Claim("soak.kills", len(wounds), kills)]),
        *(Claim(f"soak.faults_{promise}", count, 1, "<") for promise, count in faults.items()),
        Claim("soak.unfinished_rounds", sum(bool(one.unfinished) for one in rounds), 1, "<"),
        Claim("soak.recovery_s", _longest(wound.recovery_seconds for wound in wounds), RECOVERY_SECONDS, "<"),
        Claim("soak.orphaned_job_s", _longest(one.orphaned_seconds for one in rounds), ORPHANED_SECONDS, "<"),
        Claim("soak.last_job_s", _longest(one.quiet_seconds for one in rounds), JOBS_SECONDS, "<"),
        Claim("soak.cached_books_s", _longest(one.books_seconds for one in rounds), BOOKS_SECONDS, "<"),
    ]


def report(rounds: Sequence[Round], *, kills: int | None) -> str:
    """The table, what was done in all, and the claims."""
    lines = [describe([wound for one in rounds for wound in one.wounds]), ""]
    lines += [
        f"{name}: {sum(getattr(one, name) for one in rounds):,.0f}"
        for name in (
            "wishes",
            "transfers",
            "compared",
            "sent_again",
            "jobs",
            "taken_back",
            "payments",
            "days",
            "seconds",
        )
    ]
    broken = [one for one in rounds if not one.holds]
    lines += ["", f"rounds: {len(rounds)}, of which {len(broken)} broke a promise {[one.seed for one in broken] or ''}"]
    return "\n".join([*lines, "", *map(str, claims(rounds, kills=kills))])


def _longest(seconds: Iterable[float]) -> float:
    return max(seconds, default=0.0)
