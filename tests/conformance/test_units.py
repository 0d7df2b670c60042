"""`unit()` works wherever a framework lets an app's code run, and commits before the reply is there."""

import pytest

from tests.conformance.cases import having
from tests.conformance.conftest import Running, Standing
from tests.conformance.wire import Seen


@having("early")
def test_what_runs_before_a_handler_has_the_same_unit(running: Running) -> None:
    commit_visits(running, "early")


@pytest.mark.parametrize("place", ["here", "sync"])
def test_a_unit_is_had_and_committed(running: Running, place: str) -> None:
    commit_visits(running, place)


def commit_visits(running: Running, place: str) -> None:
    path = running.case.prefix + ("/visit" if place == "here" else f"/visit-{place}")

    async def ask(standing: Standing) -> Seen:
        return await standing.server.request("POST", path)

    before = running.visits(place)
    for number in (before + 1, before + 2):
        seen = running.served(ask)
        assert (seen.status, seen.body, seen.error) == (201, b"%d" % number, None)
        assert running.visits(place) == number


@having("problems")
def test_a_request_that_lost_to_another_is_run_again(running: Running) -> None:
    async def ask(standing: Standing) -> Seen:
        return await standing.server.request("POST", running.case.prefix + "/visit-again")

    seen = running.served(ask)
    assert (seen.status, seen.body) == (201, b"1")
    assert running.visits("again") == 1
    assert running.standing[-1].book.notes.count("visited") == 2


def test_a_retry_gets_the_first_reply(running: Running) -> None:
    async def ask(standing: Standing) -> list[Seen]:
        path, key = running.case.prefix + "/visit", [(b"idempotency-key", b"a-key-of-this-test")]
        return [await standing.server.request("POST", path, headers=key) for _ in range(2)]

    before = running.visits("here")
    first, second = running.served(ask)
    assert (first.status, second.status) == (201, 201)
    assert first.body == second.body
    assert second.header(b"idempotent-replayed") == b"true"
    assert running.visits("here") == before + 1


def test_what_a_handler_wrote_before_it_failed_is_undone(running: Running) -> None:
    async def ask(standing: Standing) -> Seen:
        return await standing.server.request("POST", running.case.prefix + "/visit-fail")

    seen = running.served(ask)
    assert seen.status == 500
    assert running.visits("fail") == 0
