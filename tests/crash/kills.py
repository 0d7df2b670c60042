"""What is killed and when: decided from a seed, so that a run can be repeated as far as its schedule goes."""

import random
from enum import StrEnum
from typing import Final, NamedTuple

# Of ten kills so many of each kind.
SHARES: Final = {"postgres": 3, "worker": 3, "bank": 2, "main": 2}
LONGEST_DELAY_SECONDS: Final = 0.5


class Target(StrEnum):
    """What is killed by SIGKILL."""

    POSTGRES = "postgres"
    """Postgres' main process. Its steward starts it again."""
    WORKER = "worker"
    """One worker. The main process starts another."""
    BANK = "bank"
    """All processes of the bank at once. The test starts it again."""
    MAIN = "main"
    """The main process. Its workers end by themselves; then the test starts the bank again."""


class Kill(NamedTuple):
    """One kill, so many seconds after the bank has recovered from the one before."""

    target: Target
    delay_seconds: float


class Wound(NamedTuple):
    """What a kill did: requests under way when it came, and seconds until an order made after it was posted."""

    kill: Kill
    in_flight: int
    recovery_seconds: float


def plan_kills(seed: int, count: int) -> list[Kill]:
    """`count` kills, each target by its share and each at least once where there is room, in a random order."""
    rng = random.Random(seed)  # noqa: S311
    targets = list(Target)[:count]
    weights = [SHARES[target.value] for target in Target]
    targets += rng.choices(list(Target), weights, k=count - len(targets))
    rng.shuffle(targets)
    return [Kill(target, rng.uniform(0.01, LONGEST_DELAY_SECONDS)) for target in targets]


def describe(wounds: list[Wound]) -> str:
    """Recovery by target, a line each: how many kills, the median and the longest recovery in seconds."""
    lines: list[str] = []
    for target in Target:
        seconds = sorted(wound.recovery_seconds for wound in wounds if wound.kill.target is target)
        if seconds:
            lines.append(
                f"{target.value:9} {len(seconds):3} kills, recovered in {seconds[len(seconds) // 2]:.2f} s (median),"
                f" {seconds[-1]:.2f} s (longest)"
            )
    return "\n".join(lines)
