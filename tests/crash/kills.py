"""What is struck and when: decided from a seed, so that a run can be repeated as far as its schedule goes."""

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

LONGEST_DELAY_SECONDS: Final = 0.5
# Longer than a worker's lease and beat together: it wakes up as one that was taken for dead.
DEAD_SECONDS: Final = (15.0, 20.0)
# Shorter than the lease: nobody misses it.
NAP_SECONDS: Final = (0.5, 4.0)
# Of a hundred workers that are frozen so many sleep past their lease.
DEAD_SHARE: Final = 0.5


class Target(StrEnum):
    """What is struck, by SIGKILL where nothing else is said."""

    POSTGRES = "postgres"
    """Postgres' main process. Its steward starts it again."""
    RESTART = "restart"
    """Postgres again, by SIGINT: a fast shut-down, which ends every session. Its steward starts it again."""
    CACHE = "cache"
    """Valkey. Its steward starts it again."""
    SERVER = "server"
    """One process that serves. The main process starts another."""
    STALL = "stall"
    """One process that serves, frozen for a moment (SIGSTOP, SIGCONT), with its transactions open."""
    BANK = "bank"
    """All processes that serve, and their main process, at once. The test starts them again."""
    MAIN = "main"
    """The main process. Those that serve end by themselves; then the test starts the bank again."""
    WORKER = "worker"
    """One worker of jobs. The test starts another."""
    WORKERS = "workers"
    """All workers of jobs at once."""
    ZOMBIE = "zombie"
    """One worker of jobs, frozen, and woken up when the others may have taken its jobs."""


# How often each is struck, in parts of all.
SHARES: Final = {
    Target.POSTGRES: 4,
    Target.RESTART: 2,
    Target.CACHE: 3,
    Target.SERVER: 3,
    Target.STALL: 4,
    Target.BANK: 2,
    Target.MAIN: 2,
    Target.WORKER: 5,
    Target.WORKERS: 1,
    Target.ZOMBIE: 3,
}


class Kill(NamedTuple):
    """One kill, so many seconds after the bank has recovered from the one before."""

    target: Target
    delay_seconds: float
    frozen_seconds: float = 0.0
    """How long the process sleeps, for those that are only frozen."""


class Wound(NamedTuple):
    """What a kill did: requests under way when it came, and seconds until the bank was as before.

    That is, until an order made after it was posted; for killed workers, until others in their place are at work.
    """

    kill: Kill
    in_flight: int
    recovery_seconds: float


def plan_kills(seed: int, count: int, among: Sequence[Target] = tuple(Target)) -> list[Kill]:
    """`count` kills, each target by its share and each at least once where there is room, in a random order."""
    rng = random.Random(seed)  # noqa: S311
    targets = list(among)[:count]
    weights = [SHARES[target] for target in among]
    targets += rng.choices(among, weights, k=count - len(targets))
    rng.shuffle(targets)
    return [_plan(rng, target) for target in targets]


def _plan(rng: random.Random, target: Target) -> Kill:
    delay = rng.uniform(0.01, LONGEST_DELAY_SECONDS)
    if target is Target.STALL:
        return Kill(target, delay, rng.uniform(*NAP_SECONDS))
    if target is Target.ZOMBIE:
        return Kill(target, delay, rng.uniform(*(DEAD_SECONDS if rng.random() < DEAD_SHARE else NAP_SECONDS)))
    return Kill(target, delay)


def describe(wounds: list[Wound]) -> str:
    """Recovery by target, a line each: how many kills, the median and the longest recovery in seconds."""
    lines = [f"{'struck':9} {'times':>6} {'under way':>9} {'recovery s':>10} {'longest s':>9}"]
    for target in Target:
        seconds = sorted(wound.recovery_seconds for wound in wounds if wound.kill.target is target)
        if seconds:
            met = sum(wound.in_flight for wound in wounds if wound.kill.target is target)
            median, longest = seconds[len(seconds) // 2], seconds[-1]
            lines.append(f"{target.value:9} {len(seconds):6} {met:9} {median:10.2f} {longest:9.2f}")
    return "\n".join(lines)
