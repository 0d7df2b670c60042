"""When an attack counts, and what a reply to a hostile request may be."""

import asyncio
from pathlib import Path

import pytest

from attack.__main__ import HOSTILE, NAMES
from attack.checks import Attack, Check, Checks, Outcome, judge
from attack.environment import Tool, find_tools
from attack.hostile import bodies, framing, heads
from attack.hostile.shapes import SMUGGLED, Shape, fault_of
from attack.report import table
from attack.scanners.tools import scanner_attacks
from attack.target import Target
from attack.wire import Conversation, read_replies, talk

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
TARGET = Target(name="nobody", port=1, session=0, page="/", headers={"Authorization": "Bearer x"})


async def nothing(target: Target) -> Checks:
    return []


def seen(data: bytes, *, closed: bool = False) -> Conversation:
    return Conversation(replies=tuple(read_replies(data)), closed=closed, sent=1, seconds=0.1, raw=data)


def check(*, held: bool) -> Check:
    return Check(name="a", expected="b", observed="c", held=held)


def test_replies_are_told_apart_by_their_own_lengths() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    continued = b"HTTP/1.1 100 Continue\r\n\r\n"
    replies = read_replies(continued + OK + chunked + BAD)
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"ok"), (200, b"abc"), (400, b"")]
    assert read_replies(b"SSH-2.0\r\n") == []
    assert [reply.status for reply in read_replies(OK[:-2] + OK, head=True)] == [200, 200]


def test_a_second_reply_to_one_request_is_a_smuggled_one() -> None:
    shape = Shape(name="x", data=b"")
    assert fault_of(shape, seen(BAD, closed=True)) == ""
    assert fault_of(shape, seen(BAD + OK)).startswith("2 replies to one request")
    assert fault_of(shape, seen(OK)) == "status 200"


def test_silence_is_allowed_only_where_the_shape_says_so() -> None:
    assert fault_of(Shape(name="x", data=b""), seen(b"", closed=True)) == ""
    assert fault_of(Shape(name="x", data=b"", silent=False), seen(b"", closed=True)) == "no reply"
    assert fault_of(Shape(name="x", data=b""), seen(b"root:x:0:0", closed=True)).startswith("the reply is none")


def test_an_attack_that_finds_nothing_in_the_planted_weaknesses_says_nothing() -> None:
    attack = Attack(name="a", threat="t", run=nothing)
    good, bad = [check(held=True)], [check(held=False)]
    assert judge(attack, good, bad, seconds=1).passed
    assert not judge(attack, bad, bad, seconds=1).passed
    assert "none of the planted" in judge(attack, good, good, seconds=1).error
    assert judge(attack, [], bad, seconds=1).error == "nothing was observed"
    alone = Attack(name="a", threat="t", run=nothing, planted=False)
    assert judge(alone, good, [], seconds=1).passed


def test_a_missing_tool_is_an_error_of_its_attack(tmp_path: Path) -> None:
    tools = find_tools(None, why="there is no Python")
    assert {tool.name for tool in tools.values() if tool.path is None} >= {"schemathesis", "wapiti", "sqlmap"}
    assert tools["sqlmap"].version == "missing: there is no Python"
    sqlmap = next(attack for attack in scanner_attacks(tools, tmp_path) if attack.name == "sqlmap")
    with pytest.raises(Exception, match="sqlmap is missing: there is no Python"):
        asyncio.run(as_coroutine(sqlmap))


async def as_coroutine(attack: Attack) -> Checks:
    return await attack.run(TARGET)


def test_the_table_tells_failures_and_errors() -> None:
    outcomes = [
        Outcome(name="framing", threat="smuggling", checks=(check(held=False),), caught=1),
        Outcome(name="sqlmap", threat="SQL", error="it is missing"),
        Outcome(name="hosts", threat="hosts", checks=(check(held=True),), caught=2),
    ]
    text = table(outcomes, {"sqlmap": Tool(name="sqlmap", path=None, version="missing: no")})
    assert "a: expected b; got c" in text
    assert "sqlmap says nothing: it is missing" in text
    assert text.endswith("1 of 3 attacks held")


def test_every_attack_has_a_name_of_its_own_and_every_shape_too() -> None:
    assert len(set(NAMES)) == len(NAMES) > len(HOSTILE)
    for shapes in (framing.SHAPES, heads.BOMB_SHAPES, heads.HOST_SHAPES, heads.METHOD_SHAPES, bodies.shapes()):
        names = [shape.name for shape in shapes]
        assert len(set(names)) == len(names)
    assert sum(SMUGGLED in shape.data for shape in framing.SHAPES if isinstance(shape.data, bytes)) > 25


def test_a_connection_that_nobody_takes_is_a_closed_one() -> None:
    conversation = asyncio.run(talk(1, b"GET / HTTP/1.1\r\n\r\n", seconds=2.0))
    assert conversation.closed
    assert str(conversation) == "no reply, closed"
