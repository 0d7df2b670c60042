"""Where round trips begin and end, and which commit, as seen from the bytes alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.testing import wires
from workhorse.testing.conversation import Answer, Conversation, Moment, MomentKind, Pass
from workhorse.testing.messages import Opening, WireError

SENT, ANSWERED = MomentKind.ROUND_TRIP_SENT, MomentKind.ROUND_TRIP_ANSWERED
COMMIT_SENT, COMMIT_ANSWERED = MomentKind.COMMIT_SENT, MomentKind.COMMIT_ANSWERED
Steps = list[Pass | Answer | Moment]


def started() -> Conversation:
    talk = Conversation()
    talk.from_client(wires.startup("me", "mine"))
    talk.from_server(wires.message(b"R", bytes(4)) + wires.IDLE)
    assert talk.resting
    return talk


def kinds(steps: Steps) -> list[MomentKind]:
    return [step.kind for step in steps if isinstance(step, Moment) and step.kind is not MomentKind.MESSAGE_SENT]


def passed(steps: Steps) -> bytes:
    return b"".join(step.data for step in steps if isinstance(step, Pass))


def test_a_simple_query_is_one_round_trip() -> None:
    talk = started()
    assert kinds(talk.from_client(wires.query("SELECT 1"))) == [SENT]
    assert not talk.resting
    steps = talk.from_server(wires.complete("SELECT 1") + wires.IDLE)
    assert kinds(steps) == [ANSWERED]
    assert isinstance(steps[1], Moment)
    assert steps[1].trip is not None
    assert (steps[1].trip.number, steps[1].trip.statements, steps[1].idle) == (1, ["SELECT 1"], True)
    assert talk.resting


def test_a_pipeline_is_one_round_trip_and_its_commit_is_found_by_the_name_of_its_statement() -> None:
    talk = started()
    first = wires.parse("c1", "COMMIT") + wires.parse("", "INSERT INTO t VALUES (1)")
    first += wires.bind("", "") + wires.execute("") + wires.SYNC
    assert kinds(talk.from_client(first)) == [SENT]
    assert kinds(talk.from_server(wires.complete("INSERT 0 1") + wires.IN_TRANSACTION)) == [ANSWERED]
    assert not talk.resting, "a transaction is open"
    second = wires.bind("p", "c1") + wires.execute("p") + wires.SYNC
    steps = talk.from_client(second)
    assert kinds(steps) == [SENT, COMMIT_SENT]
    at = next(at for at, step in enumerate(steps) if isinstance(step, Moment) and step.kind is COMMIT_SENT)
    assert passed(steps[:at]) == wires.bind("p", "c1"), "the moment is exactly before Execute"
    assert passed(steps[at:]) == wires.execute("p") + wires.SYNC
    steps = talk.from_server(wires.message(b"2") + wires.complete("COMMIT") + wires.IDLE)
    assert kinds(steps) == [COMMIT_ANSWERED, ANSWERED]
    assert passed(steps[:2]) == wires.message(b"2"), "and exactly before the client hears"


def test_two_round_trips_under_way_are_answered_in_their_order() -> None:
    talk = started()
    assert kinds(talk.from_client(wires.query("SELECT 1") + wires.query("SELECT 2"))) == [SENT, SENT]
    steps = talk.from_server(wires.IDLE + wires.IDLE)
    assert [step.trip.number for step in steps if isinstance(step, Moment) and step.trip] == [1, 2]


def test_a_commit_of_a_failed_transaction_is_none() -> None:
    talk = started()
    talk.from_client(wires.query("COMMIT"))
    assert kinds(talk.from_server(wires.complete("ROLLBACK") + wires.IDLE)) == [ANSWERED]


@pytest.mark.parametrize(
    "text",
    [
        "COMMIT",
        "  commit and chain",
        "/* by: me */ -- now\n COMMIT",
        "END",
        "PREPARE TRANSACTION 'a'",
        "UPDATE t SET a = 1; COMMIT;",
    ],
)
def test_a_statement_that_commits_is_known_by_its_text(text: str) -> None:
    assert kinds(started().from_client(wires.query(text))) == [SENT, COMMIT_SENT]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT CASE WHEN true THEN 1 END",
        "DO $$ BEGIN COMMIT; END $$",
        "DO $$ BEGIN PERFORM 1; COMMIT; END $$",
        "SELECT 'a' AS committed",
        "COMMITTED",
        "ROLLBACK",
    ],
)
def test_a_statement_that_only_has_the_word_in_it_does_not_commit(text: str) -> None:
    assert kinds(started().from_client(wires.query(text))) == [SENT]


def test_a_copy_in_a_pipeline_goes_on_past_the_sync_that_the_server_ignores() -> None:
    talk = started()
    asked = wires.parse("", "COPY t FROM STDIN") + wires.bind("", "") + wires.execute("") + wires.SYNC
    assert kinds(talk.from_client(asked)) == [SENT]
    talk.from_server(wires.message(b"1") + wires.message(b"2") + wires.message(b"G", bytes(3)))
    assert kinds(talk.from_client(wires.message(b"d", b"1\n") + wires.message(b"c") + wires.SYNC)) == []
    assert kinds(talk.from_server(wires.complete("COPY 1") + wires.IDLE)) == [ANSWERED]
    assert talk.resting


@pytest.mark.parametrize("kind", [Opening.TLS, Opening.GSS])
def test_encryption_is_declined_and_not_passed_on(kind: Opening) -> None:
    talk = Conversation()
    assert talk.from_client(wires.opening(kind)) == [Answer(b"N")]
    assert passed(talk.from_client(wires.startup("me", "mine"))) == wires.startup("me", "mine")


def test_a_cancellation_passes_and_is_no_round_trip() -> None:
    asked = b"\0\0\0\x10" + (80877102).to_bytes(4, "big") + bytes(8)
    assert Conversation().from_client(asked) == [Pass(asked)]


def test_a_message_without_its_names_is_refused() -> None:
    with pytest.raises(WireError, match="names no statement"):
        started().from_client(wires.message(b"P", b"nothing ends here"))


ASKED = st.sampled_from(
    [
        wires.query("SELECT 1"),
        wires.query("COMMIT"),
        wires.parse("a", "COMMIT"),
        wires.bind("", "a"),
        wires.execute(""),
        wires.message(b"H"),
        wires.message(b"C", b"Sa\0"),
        wires.message(b"p", b"secret\0"),
        wires.message(b"d", b"data"),
        wires.SYNC,
    ]
)


@given(st.lists(ASKED, max_size=30), st.lists(st.integers(0, 2_000), max_size=10))
def test_all_bytes_pass_and_each_end_has_its_beginning(asked: list[bytes], cuts: list[int]) -> None:
    data = b"".join(asked)
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    chopped, whole = started(), started()
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    steps = [step for piece in pieces for step in chopped.from_client(piece)]
    at_once = whole.from_client(data)
    assert passed(steps) == passed(at_once) == data
    assert kinds(steps) == kinds(at_once)
    ended = sum(one[:1] in {b"Q", b"S"} for one in asked)
    assert kinds(at_once).count(SENT) in {ended, ended + 1}
    answers = chopped.from_server(wires.IDLE * ended)
    assert kinds(answers) == [ANSWERED] * ended
    assert chopped.resting is (kinds(at_once).count(SENT) == ended)
