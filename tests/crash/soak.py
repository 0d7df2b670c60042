"""The bank under siege for hours: `make soak`, or `python -m tests.crash.soak`.

A soak is a row of sieges, each on a new bank with a seed of its own: so memory and disk stay as they are however long
it goes on, a verdict comes every few minutes, and what broke a promise is repeated by its round alone. What a round
wrote is deleted when it held, and kept when it did not.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, cast

from tests.crash.clients import Witness
from tests.crash.kills import Target, Wound
from tests.crash.report import Round, report
from tests.crash.siege import Scale, besiege

# A line each so many kills.
PROGRESS: Final = 10
MOST_FAULTS: Final = 20
# The folders of so many broken rounds are kept.
MOST_KEPT: Final = 3


def main() -> int:
    """Read the command line, besiege, and print the verdict. Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.soak", description="Besiege the bank.")
    parser.add_argument("--kills", type=int, default=2_000, help="in all (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="begin no other round after so long, whatever --kills says")
    parser.add_argument("--round", type=int, default=100, help="kills of one round (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count on from it")
    parser.add_argument("--clients", type=int, default=Scale(kills=0).clients, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=Scale(kills=0).workers, help="of jobs (default: %(default)s)")
    parser.add_argument("--only", nargs="+", type=Target, choices=list(Target), help="what is struck (default: all)")
    parser.add_argument("--rest", type=float, default=0.05, help="seconds that a client rests (default: %(default)s)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    say(f"seed {seed}: {arguments.kills} kills in rounds of {arguments.round}; again with --seed {seed}")
    began, rounds, left, kept = time.monotonic(), list[Round](), arguments.kills, 0
    try:
        while left > 0 and (arguments.minutes is None or time.monotonic() - began < arguments.minutes * 60):
            scale = Scale(
                kills=min(arguments.round, left),
                clients=arguments.clients,
                workers=arguments.workers,
                client_rest=arguments.rest,
                targets=tuple(arguments.only or Target),
            )
            folder = Path(tempfile.mkdtemp(prefix="workhorse-soak-"))
            try:
                rounds.append(_one(folder, scale, seed + len(rounds), len(rounds) + 1))
            except KeyboardInterrupt:
                shutil.rmtree(folder)
                raise
            left -= scale.kills
            if rounds[-1].holds or kept == MOST_KEPT:
                shutil.rmtree(folder)
            else:
                kept += 1
                say(f"its databases and logs are in {folder}")
    except KeyboardInterrupt:
        say("interrupted")
    say("\n" + report(rounds, kills=arguments.kills if arguments.minutes is None else None))
    return 0 if rounds and all(one.holds for one in rounds) else 1


def _one(folder: Path, scale: Scale, seed: int, number: int) -> Round:
    began, wounds, seen = time.monotonic(), list[Wound](), list[str]()

    def tell(count: int, wound: Wound, witness: Witness) -> None:
        wounds.append(wound)
        seen[:] = witness.faults
        if count % PROGRESS == 0 or count == scale.kills:
            say(
                f"round {number}, {count} of {scale.kills} kills, {time.monotonic() - began:.0f} s:"
                f" {len(witness.orders)} wishes, {witness.sent_again} sent again, {len(witness.faults)} faults so far"
            )

    try:
        judged = Round.of(seed, asyncio.run(besiege(folder, scale, seed=seed, tell=tell)))
    except Exception as error:  # noqa: BLE001 - whatever it was, the next round may hold
        judged = Round(seed=seed, wounds=wounds, faults={"answers": seen}, unfinished=_why(error))
        say(f"round {number} (--seed {seed} --kills {scale.kills}) did not come to its end: {judged.unfinished}")
    for promise, faults in judged.faults.items():
        for fault in faults[:MOST_FAULTS]:
            say(f"round {number} (--seed {seed} --kills {scale.kills}) broke {promise}: {fault[:1000]}")
        if len(faults) > MOST_FAULTS:
            say(f"... and {len(faults) - MOST_FAULTS} more of {promise}")
    if judged.holds:
        say(
            f"round {number} held: {judged.wishes} wishes, {judged.jobs} jobs, {judged.taken_back} taken back,"
            f" last job {judged.quiet_seconds:.1f} s after the last answer"
        )
    return judged


def _why(error: Exception) -> str:
    """What an error says; of a group of tasks, what each of theirs says."""
    if isinstance(error, ExceptionGroup):
        return "; ".join(_why(one) for one in cast("ExceptionGroup[Exception]", error).exceptions)
    return f"{type(error).__name__}: {error}"


def say(text: str) -> None:
    """Print a line now: a soak goes on for hours."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
