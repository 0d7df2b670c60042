"""The bank is killed in mid-load, again and again, and nothing is lost, doubled or answered in two ways.

BANK_CRASH_KILLS   how many kills (30)
BANK_CRASH_SEED    repeats the schedule of an earlier run, which printed it
"""

import asyncio
import contextlib
import os
import random

import pytest

from tests.crash.kills import Target, describe
from tests.crash.siege import Aftermath, besiege
from tests.crash.verdict import judge

pytestmark = [pytest.mark.crash, pytest.mark.slow]

KILLS = int(os.environ.get("BANK_CRASH_KILLS", "30"))


@pytest.fixture(scope="module")
def aftermath(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    seed = int(os.environ.get("BANK_CRASH_SEED") or random.SystemRandom().randrange(2**32))
    tell(request.config, f"{KILLS} kills, BANK_CRASH_SEED={seed}")
    found = asyncio.run(besiege(tmp_path_factory.mktemp("siege"), kills=KILLS, seed=seed))
    witness = found.witness
    tell(
        request.config,
        f"{describe(found.wounds)}\n{found.seconds:.0f} s, {found.starts} starts of the bank:"
        f" {len(witness.orders)} orders, {len(found.posted)} posted,"
        f" {witness.compared} answers compared with an earlier one, {witness.sent_again} requests sent again",
    )
    return found


def tell(config: pytest.Config, text: str) -> None:
    """Print past the capture: a run of minutes should say what it does, and its seed even if it is interrupted."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        print(f"\n{text}", flush=True)


def test_every_acknowledged_transfer_is_posted_exactly_once_and_none_that_nobody_ordered(aftermath: Aftermath) -> None:
    assert judge(aftermath.witness.orders, aftermath.witness.answers, aftermath.posted) == []


def test_every_key_has_one_answer_however_often_it_is_sent(aftermath: Aftermath) -> None:
    assert aftermath.witness.faults == []
    assert aftermath.kept_replies == len(aftermath.witness.orders)
    assert aftermath.witness.compared > KILLS


def test_the_books_balance_by_the_banks_word_and_by_our_own_count(aftermath: Aftermath) -> None:
    assert aftermath.audit["balanced"] is True
    assert aftermath.wrong_balances == []
    assert set(aftermath.totals.values()) == {0}


def test_everybody_is_told_of_each_posted_transfer_exactly_once(aftermath: Aftermath) -> None:
    posted = len(aftermath.posted)
    assert aftermath.audit["advices"] == {"transfers": posted, "announced": posted, "advised": posted, "waiting": 0}


def test_the_kills_met_requests_under_way_and_clients_that_had_to_ask_again(aftermath: Aftermath) -> None:
    assert len(aftermath.wounds) == KILLS
    assert {wound.kill.target for wound in aftermath.wounds} == set(list(Target)[:KILLS])
    assert all(wound.in_flight for wound in aftermath.wounds)
    assert sum(wound.in_flight for wound in aftermath.wounds) > 5 * KILLS
    assert aftermath.witness.sent_again > KILLS


def test_the_bank_did_real_work_between_the_kills(aftermath: Aftermath) -> None:
    refused = sum(answer.status == 409 for answer in aftermath.witness.answers.values())
    assert len(aftermath.posted) > 20 * KILLS
    assert refused > KILLS


def test_nothing_went_wrong_that_the_bank_itself_calls_an_error(aftermath: Aftermath) -> None:
    errors = [line for line in aftermath.bank_log.splitlines() if " error " in line]
    assert errors == []
