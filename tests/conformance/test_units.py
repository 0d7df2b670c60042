"""`unit()` works wherever a framework lets an app's code run, and commits before the reply is there."""

import pytest

from tests.conformance.conftest import Running, Standing
from tests.conformance.wire import Seen


@pytest.mark.parametrize("place", ["here", "sync", "early"])
def test_a_unit_is_had_and_committed(running: Running, place: str) -> None:
    path = running.case.prefix + ("/visit" if place == "here" else f"/visit-{place}")

    async def ask(standing: Standing) -> Seen:
        return await standing.server.request("POST", path)

    for number in (1, 2):
        seen = running.served(ask)
        assert (seen.status, seen.body, seen.error) == (201, b"%d" % number, None)
        assert running.visits(place) == number


def test_what_a_handler_wrote_before_it_failed_is_undone(running: Running) -> None:
    async def ask(standing: Standing) -> Seen:
        return await standing.server.request("POST", running.case.prefix + "/visit-fail")

    seen = running.served(ask)
    assert (seen.status, seen.header(b"content-type")) == (500, b"application/problem+json")
    assert running.visits("fail") == 0
