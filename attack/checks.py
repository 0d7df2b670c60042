"""What an attack says: one line for each thing that was expected, and whether it held.

Nothing observed is not nothing found. A group of checks counts only if its control did: the same checks against an app
that is full of planted weaknesses must find some, or they would find none in the bank either.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from attack.target import Target

__all__ = ["Attack", "AttackError", "Check", "Checks", "Outcome", "judge", "shown"]

SHOWN: Final = 300


class AttackError(Exception):
    """An attack could not be made, so nothing is known. The text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was expected of the target."""

    name: str
    expected: str
    observed: str
    held: bool


Checks: TypeAlias = Sequence[Check]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A group of checks that belong together."""

    name: str
    threat: str
    run: Callable[[Target], Awaitable[Checks]]
    planted: bool = True
    """Whether the planted app speaks what is attacked. Where it does not, a good request among the checks must pass,
    which shows that they reach the app; that they would find a weakness is not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attack."""

    name: str
    threat: str
    checks: tuple[Check, ...] = ()
    caught: int = 0
    """Planted weaknesses that the same checks found."""
    seconds: float = 0.0
    error: str = ""
    """Why nothing is known; empty where it is."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not hold."""
        return tuple(check for check in self.checks if not check.held)

    @property
    def passed(self) -> bool:
        """Whether all held, and the control shows that this means something."""
        return not self.error and not self.failed


def judge(attack: Attack, checks: Checks, planted: Checks, *, seconds: float) -> Outcome:
    """Put together what was seen at the target and at the planted weaknesses."""
    caught = sum(not check.held for check in planted)
    error = ""
    if not checks:
        error = "nothing was observed"
    elif attack.planted and not caught:
        error = "the same checks found none of the planted weaknesses, so they would find none here"
    return Outcome(
        name=attack.name, threat=attack.threat, checks=tuple(checks), caught=caught, seconds=seconds, error=error
    )


def shown(value: object) -> str:
    """A value for the report, cut to a readable length."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
