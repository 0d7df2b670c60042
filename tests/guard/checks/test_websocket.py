"""A WebSocket takes messages up to their size and their rate, and closes with the standard's codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.asgi import Message
from workhorse.errors import SettingsError
from workhorse.guard.checks.websocket import OVER_RATE, TOO_BIG, MessageMeter, compile_websocket


def text(value: str) -> Message:
    return {"type": "websocket.receive", "text": value, "bytes": None}


def binary(value: bytes) -> Message:
    return {"type": "websocket.receive", "bytes": value}


SIZES: list[tuple[str, Message, int]] = [
    ("a short text", text("hello"), 0),
    ("an empty text", text(""), 0),
    ("the longest text", text("x" * 10), 0),
    ("a longer text", text("x" * 11), TOO_BIG),
    ("five letters of two bytes", text("é" * 5), 0),
    ("six letters of two bytes", text("é" * 6), TOO_BIG),
    ("three letters of four bytes", text("🐴" * 3), TOO_BIG),
    ("half a letter", text("\ud83d" * 4), TOO_BIG),
    ("the longest bytes", binary(b"\xff" * 10), 0),
    ("more bytes", binary(b"\xff" * 11), TOO_BIG),
    ("no content", {"type": "websocket.receive"}, 0),
    ("both", {"type": "websocket.receive", "bytes": b"x", "text": "x" * 11}, TOO_BIG),
]


@pytest.mark.parametrize(("message", "code"), [row[1:] for row in SIZES], ids=[row[0] for row in SIZES])
def test_sizes(message: Message, code: int) -> None:
    assert MessageMeter(compile_websocket(message_bytes=10)).take(message, 0.0) == code


def test_a_burst_passes_and_then_the_rate() -> None:
    meter = MessageMeter(compile_websocket(messages_per_second=10, burst=5))
    assert [meter.take(text("x"), 100.0) for _ in range(7)] == [0] * 5 + [OVER_RATE] * 2
    assert meter.take(text("x"), 100.11) == 0
    assert meter.take(text("x"), 100.11) == OVER_RATE
    assert [meter.take(text("x"), 200.0) for _ in range(6)] == [0] * 5 + [OVER_RATE]


def test_a_burst_is_that_of_ten_seconds_unless_it_is_said() -> None:
    meter = MessageMeter(compile_websocket(messages_per_second=3))
    assert [meter.take(text("x"), 5.0) for _ in range(31)] == [0] * 30 + [OVER_RATE]


def test_a_message_that_is_too_large_takes_nothing_from_the_rate() -> None:
    meter = MessageMeter(compile_websocket(message_bytes=1, messages_per_second=1, burst=1))
    assert meter.take(text("xx"), 1.0) == TOO_BIG
    assert meter.take(text("x"), 1.0) == 0


@given(st.lists(st.integers(0, 400), max_size=200), st.integers(1, 10), st.integers(1, 20))
def test_in_no_span_of_time_more_pass_than_the_burst_and_the_rate(pauses: list[int], rate: int, burst: int) -> None:
    meter = MessageMeter(compile_websocket(messages_per_second=rate, burst=burst))
    now, passed = 0.0, list[float]()
    for pause in pauses:
        now += pause / 1000
        if meter.take(binary(b""), now) == 0:
            passed.append(now)
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - begin) * rate + 1e-5


@pytest.mark.parametrize("setting", [{"message_bytes": 0}, {"messages_per_second": 0}, {"burst": 0}], ids=str)
def test_settings_out_of_range_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=r"max_message_bytes|messages_per_second|burst"):
        compile_websocket(**setting)
