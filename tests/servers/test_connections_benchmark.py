"""The benchmark of connections: what it prints, and that its crowd is as slow as it says."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from benchmarks.connections.__main__ import ServerFigures, report
from benchmarks.connections.crowd import CrowdResult, SlowBody, SlowClient, SlowHead, SlowReader
from benchmarks.connections.normal import Experience


def test_the_report_has_a_row_for_each_part_and_ends_with_the_claims() -> None:
    figures = ServerFigures(
        name="granian",
        alone=Experience([1.0, 2.0], [3.0]),
        beside_idle=Experience([1.0] * 98, [2.0, 9.0]),
        beside_all=Experience([1.0], [300.0], failed=2),
        memory_before=100,
        memory_idle=200,
        memory_peak=350,
        idle=10_240,
        slow=1_000,
        crowd=CrowdResult(idle_lost=1, heads_cut=2, bodies_cut=3, readers_cut=4),
    )
    lines = report([figures]).splitlines()
    assert lines[1].split() == ["granian", "alone", "2.0", "3.0", "3.0", "3", "0"]
    assert lines[2].split() == ["granian", "beside", "10,240", "idle", "1.0", "2.0", "9.0", "100", "0"]
    assert lines[3].split()[-5:] == ["300.0", "inf", "300.0", "2", "2"]
    assert "granian: 100 MB alone, 200 MB beside idle ones (10.0 KB each), 350 MB at most beside all" in lines
    assert "granian: cut off 2 slow heads, 3 slow bodies, 4 slow readers, 1 idle connections" in lines
    assert lines[-4:] == [
        "claim connections.granian_p99_ms inf <250 short",
        "claim connections.granian_failed 2 <1 short",
        "claim connections.granian_idle_kb 10 <64 ok",
        "claim connections.granian_growth_mb 250 <1024 ok",
    ]


@pytest.mark.parametrize(
    ("kind", "first", "more"),
    [
        (SlowHead, b"GET / HTTP/1.1\r\n", b"x"),
        (SlowBody, b"POST /upload", b"0123456789"),
        (SlowReader, b"GET /large", b""),
    ],
)
def test_a_slow_client_says_little_each_second_and_comes_again_when_it_is_cut_off(
    kind: Callable[[int], SlowClient], first: bytes, more: bytes
) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = kind(listener.getsockname()[1])
            await client.connect()
            served, _ = listener.accept()
            with served:
                said = served.recv(4096)
                assert said.startswith(first)
                assert b"\r\n\r\n" in said or kind is SlowHead
                await client.tick()
                await client.tick()
                served.settimeout(0.2)
                assert (served.recv(4096) if more else b"") == more * 2
            await asyncio.sleep(0.05)
            await client.tick()
            assert client.cut == 1
            again, _ = listener.accept()
            with again:
                assert again.recv(4096).startswith(first)
            client.close()

    asyncio.run(main())
