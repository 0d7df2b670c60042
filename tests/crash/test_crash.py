"""The bank is killed in mid-load a hundred times, and nothing is lost, doubled or answered in two ways.

BANK_CRASH_KILLS   how many kills (30)
BANK_CRASH_SEED    repeats the schedule of an earlier run, which is printed
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.crash.kills import Target, describe
from tests.crash.siege import Aftermath, besiege
from tests.crash.verdict import judge

pytestmark = [pytest.mark.crash, pytest.mark.slow]

KILLS = int(os.environ.get("BANK_CRASH_KILLS", "30"))


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory, capfd_off: "Teller") -> Aftermath:
    seed = int(os.environ.get("BANK_CRASH_SEED", random.SystemRandom().randrange(2**32)))
    capfd_off(f"\n{KILLS} kills, BANK_CRASH_SEED={seed}")
    found = asyncio.run(besiege(tmp_path_factory.mktemp("siege"), kills=KILLS, seed=seed))
    witness = found.witness
    capfd_off(
        f"{describe(found.wounds)}\n{found.seconds:.0f} s: {len(witness.orders)} orders, {len(witness.answers)} answered,"
        f" {len(found.posted)} posted, {witness.compared} answers compared, {witness.sent_again} requests sent again"
    )
    return found
