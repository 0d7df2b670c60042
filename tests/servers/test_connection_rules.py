"""When a connection is cut, and which ones make room; what the kernel tells; and the open files that they need."""

import asyncio
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.servers.connections import Connection, Cut, Look, choose_victims
from workhorse.servers.ledger import Ledger, peer_of
from workhorse.servers.limits import DEFAULT_CONNECTIONS, OWN_FILES, ConnectionLimits
from workhorse.servers.watch import Watch, can_watch, read_look

LIMITS = ConnectionLimits(
    max_connections=100,
    head_timeout_seconds=10,
    keep_alive_seconds=60,
    reply_pause_seconds=20,
    reply_bytes_per_second=500,
)
QUIET = Look(received=0, acknowledged=0, unsent=0, unacknowledged=0, quiet_seconds=0.0)


def judged(
    connection: Connection, look: Look, now: float, *, busy: bool = False, finished: bool = False, stalled: bool = False
) -> Cut | None:
    return connection.judge(look, busy=busy, finished=finished, stalled=stalled, now=now, limits=LIMITS)


def new() -> Connection:
    return Connection(("192.0.2.1", 40_000), inode=1)


def test_a_head_has_its_time_from_its_first_byte_however_steadily_it_comes() -> None:
    connection = new()
    assert judged(connection, QUIET, 0) is None
    for second in range(1, 11):
        assert judged(connection, QUIET._replace(received=second), second) is None
    assert judged(connection, QUIET._replace(received=11), 11) is Cut.HEAD


def test_a_head_after_a_finished_request_has_its_time_anew() -> None:
    connection = new()
    assert judged(connection, QUIET._replace(received=100), 0) is None
    assert judged(connection, QUIET._replace(received=100), 9, finished=True) is None
    assert judged(connection, QUIET._replace(received=100), 30) is None
    assert judged(connection, QUIET._replace(received=101), 31) is None
    assert judged(connection, QUIET._replace(received=101), 40.9) is None
    assert judged(connection, QUIET._replace(received=101), 41) is Cut.HEAD


def test_an_idle_or_silent_connection_has_the_time_for_idle_ones_and_a_margin() -> None:
    for received in (0, 100):
        connection = new()
        assert judged(connection, QUIET._replace(received=received), 0, finished=received > 0) is None
        assert judged(connection, QUIET._replace(received=received, quiet_seconds=64.9), 65) is None
        assert judged(connection, QUIET._replace(received=received, quiet_seconds=65), 65) is Cut.IDLE


def test_a_reader_that_takes_nothing_is_cut_after_the_pause_whether_the_app_still_works_for_it_or_not() -> None:
    for busy in (True, False):
        connection = new()
        stuck = QUIET._replace(acknowledged=5_000, unsent=1_000)
        assert judged(connection, stuck, 0, busy=busy) is None
        assert judged(connection, stuck, 19.9, busy=busy) is None
        assert judged(connection, stuck, 20, busy=busy) is Cut.READER


@pytest.mark.parametrize(("rate", "cut"), [(499, Cut.READER), (500, None), (5_000, None)])
def test_a_reader_that_is_behind_must_keep_the_least_rate(rate: int, cut: Cut | None) -> None:
    connection = new()
    verdicts = [
        judged(connection, QUIET._replace(acknowledged=rate * second, unsent=1), second, busy=True)
        for second in range(101)
    ]
    assert next((verdict for verdict in verdicts if verdict), None) is cut


def test_a_stream_that_says_little_need_only_arrive() -> None:
    connection = new()
    for second in range(200):  # one byte a second, always one on its way
        look = QUIET._replace(acknowledged=second, unacknowledged=1)
        assert judged(connection, look, second, busy=True) is None
    lost = QUIET._replace(acknowledged=199, unacknowledged=1)
    assert [judged(connection, lost, second, busy=True) for second in range(200, 230)].count(Cut.READER) > 0


def test_pings_of_http2_are_no_heads() -> None:
    connection = new()
    connection.multiplexed = True
    for second in range(100):
        assert judged(connection, QUIET._replace(received=100 + 17 * second), second) is None


def test_what_waits_for_a_stalled_app_is_not_the_clients_fault() -> None:
    connection = new()
    for second in range(60):
        assert judged(connection, QUIET._replace(received=100), second, stalled=True) is None
    assert judged(connection, QUIET._replace(received=100), 60) is None
    assert judged(connection, QUIET._replace(received=100), 69) is None


looks = st.builds(
    Look,
    received=st.integers(0, 10**6),
    acknowledged=st.integers(0, 10**6),
    unsent=st.integers(0, 10**6) | st.just(0),
    unacknowledged=st.integers(0, 100) | st.just(0),
    quiet_seconds=st.floats(0, 1000),
)


@given(st.lists(st.tuples(looks, st.floats(0, 100), st.booleans(), st.booleans()), max_size=30))
def test_while_the_app_works_for_a_client_only_its_own_slowness_at_taking_the_reply_cuts_it(
    steps: list[tuple[Look, float, bool, bool]],
) -> None:
    connection, now = new(), 0.0
    for look, pause, finished, stalled in steps:
        now += pause
        cut = judged(connection, look, now, busy=True, finished=finished, stalled=stalled)
        assert cut in {None, Cut.READER}
        assert connection.waiting_seconds is None
        if cut is Cut.READER:
            assert look.unsent or look.unacknowledged


@given(st.lists(st.none() | st.floats(0, 1000), max_size=130))
def test_those_that_make_room_are_the_longest_waiting_and_never_busy(waits: list[float | None]) -> None:
    connections = [Connection(("192.0.2.1", port), inode=port, waiting_seconds=wait) for port, wait in enumerate(waits)]
    victims = choose_victims(connections, LIMITS)
    assert all(victim.waiting_seconds is not None for victim in victims)
    spared = [one.waiting_seconds for one in connections if one.waiting_seconds is not None and one not in victims]
    chosen = [victim.waiting_seconds or 0.0 for victim in victims]
    if len(connections) < 90:
        assert victims == []
    else:
        assert len(connections) - len(victims) <= 80 or not spared
        assert not spared or not chosen or max(spared) <= min(chosen)


def test_the_ledger_counts_requests_of_one_client_and_forgets_it_after_the_last() -> None:
    ledger, peer = Ledger(), ("192.0.2.1", 40_000)
    ledger.begin(peer)
    ledger.begin(peer)
    ledger.end(peer, multiplexed=True)
    assert peer in ledger.under_way
    ledger.end(peer, multiplexed=False)
    assert ledger.under_way == {}
    assert ledger.take_ended() == ({peer}, {peer})
    assert ledger.take_ended() == (set(), set())


@pytest.mark.parametrize(
    ("client", "peer"),
    [
        (("192.0.2.1", 40_000), ("192.0.2.1", 40_000)),
        (("192.0.2.1", "40000"), ("192.0.2.1", 40_000)),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::1", 1)),
        (["::1", 1], ("::1", 1)),
        (None, None),
        (("/run/app.sock", None), None),
    ],
)
def test_a_client_has_one_name_whoever_tells_it(client: Any, peer: tuple[str, int] | None) -> None:
    assert peer_of(client) == peer


def test_the_kernel_tells_what_came_what_went_and_what_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
        with client, served:
            client.sendall(b"x" * 100)
            served.sendall(b"y" * 70)
            time.sleep(0.1)
            look = read_look(served)
            assert look is not None
            assert look[:4] == (100, 70, 0, 0)
            assert 0.05 < look.quiet_seconds < 5
            served.settimeout(0)
            sent = 70
            while True:
                try:
                    sent += served.send(b"z" * 65_536)
                except BlockingIOError:
                    break
            time.sleep(0.1)
            look = read_look(served)
            assert look is not None
            assert look.unsent > 0
            assert look.acknowledged + look.unsent <= sent
            assert read_look(listener) is None


def test_the_watch_leaves_alone_what_is_no_clients_connection() -> None:
    assert can_watch()

    async def main() -> None:
        ledger = Ledger()
        loop = asyncio.get_running_loop()
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_server(("127.0.0.1", 0)) as elsewhere,
            socket.create_connection(elsewhere.getsockname()) as outgoing,
            socket.create_connection(listener.getsockname()) as client,
        ):
            incoming, _ = listener.accept()
            database, _ = elsewhere.accept()
            pair = socket.socketpair()
            limits = ConnectionLimits(head_timeout_seconds=0.5)
            watch = Watch(port=listener.getsockname()[1], limits=limits, ledger=ledger, loop=loop)
            with incoming, database, pair[0], pair[1]:
                for one in (client, outgoing, pair[0]):
                    one.send(b"G")
                watch.start()
                client.settimeout(10)
                # Only this one is a client's head, and it is slow.
                assert await asyncio.to_thread(client.recv, 1) == b""
                watch.stop()
                outgoing.settimeout(1)
                for one, other in ((outgoing, database), (pair[0], pair[1])):
                    assert other.recv(10) == b"G"
                    other.send(b"ok")
                    assert one.recv(10) == b"ok"

    asyncio.run(main())


ROOM = """
import resource, sys
from workhorse.errors import StartupError
from workhorse.servers.limits import make_room
soft, hard, wanted = (int(one) for one in sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    print(make_room(wanted or None), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except StartupError as error:
    print(error)
"""


@pytest.fixture
def room() -> Callable[..., str]:
    """What `make_room` does in a process of its own with these limits."""

    def run(*, soft: int, hard: int, wanted: int = 0) -> str:
        command = (sys.executable, "-c", ROOM, str(soft), str(hard), str(wanted))
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout + done.stderr

    return run


def test_the_limit_on_open_files_is_raised_as_far_as_needed_and_no_further(room: Callable[..., str]) -> None:
    assert room(soft=600, hard=4_000, wanted=1_000) == f"1000 {1_000 + OWN_FILES}\n"
    assert room(soft=3_000, hard=4_000, wanted=1_000) == "1000 3000\n"


def test_more_connections_than_the_hard_limit_allows_are_an_error_with_its_mend(room: Callable[..., str]) -> None:
    said = room(soft=600, hard=1_000, wanted=1_000)
    assert f"1000 connections need {1_000 + OWN_FILES} open files" in said
    assert "the system allows 1000" in said
    assert "server.max_connections" in said


def test_without_a_number_there_are_as_many_as_the_hard_limit_allows(room: Callable[..., str]) -> None:
    assert room(soft=600, hard=2_000).startswith(f"{2_000 - OWN_FILES} 2000\n")
    assert f"{2_000 - OWN_FILES} connections at most" in room(soft=600, hard=2_000)
    assert "system allows 520" in room(soft=520, hard=520)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= DEFAULT_CONNECTIONS + OWN_FILES:
        assert room(soft=600, hard=hard).startswith(f"{DEFAULT_CONNECTIONS} ")
