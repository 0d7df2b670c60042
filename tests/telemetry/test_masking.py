"""Card numbers, and an app's personal fields, in what is logged."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.telemetry.cards import holds_card, mask_cards
from workhorse.telemetry.lines import AccessLine
from workhorse.telemetry.log import Log
from workhorse.telemetry.masking import Masking

# Numbers that schemes publish for tests.
CARDS = [
    "4111111111111111",
    "4222222222222",
    "378282246310005",
    "371449635398431",
    "5555555555554444",
    "2223003122003222",
    "6011111111111117",
    "3530111333300000",
    "30569309025904",
    "6205500000000000004",
]


@pytest.mark.parametrize("number", CARDS)
@pytest.mark.parametrize("written", ["{}", "card={},", "({})", "/cards/{}/x", "x {} y"])
def test_a_card_is_found_however_it_is_written(number: str, written: str) -> None:
    masked = number[:6] + "*" * (len(number) - 10) + number[-4:]
    fours = [number[at : at + 4] for at in range(0, len(number), 4)]
    for spelled in (number, " ".join(fours), "-".join(fours)):
        assert holds_card(written.format(spelled))
        assert mask_cards(written.format(spelled)) == written.format(masked)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "1234567890123452",
        "2721000000000004",
        "41111111111111111111111111",
        "a4111111111111111",
        "4111111111111111f",
        "2026-11-23 10:00:00.123456",
        "4bf92f3577b34da6a3ce929d0e0e4736",
    ],
)
def test_what_is_no_card_is_kept(text: str) -> None:
    assert mask_cards(text) == text


@given(st.text(st.sampled_from("0123456789 -ab4"), max_size=60))
def test_masking_twice_is_masking_once_and_no_card_is_left(text: str) -> None:
    masked = mask_cards(text)
    assert not holds_card(masked)
    assert mask_cards(masked) == masked


def test_a_long_run_of_digits_takes_no_time() -> None:
    started = time.perf_counter()
    mask_cards("4 " * 200_000)
    mask_cards("4" * 200_000)
    assert time.perf_counter() - started < 2


MASKING = Masking({"phone", "Name"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("phone=555-1234 was taken", "phone=*** was taken"),
        ("{'phone': '555 \\'1', 'size': 3}", "{'phone': ***, 'size': 3}"),
        ('{"NAME": "Jane Doe"}', '{"NAME": ***}'),
        ("Patient(name='Jane Doe', phone=None)", "Patient(name=***, phone=***)"),
        ("hostname=db filename=x telephone=1", "hostname=db filename=x telephone=1"),
        ("the phone rang", "the phone rang"),
    ],
)
def test_personal_fields_are_masked_by_name(text: str, expected: str) -> None:
    assert MASKING.text(text) == expected


def test_personal_fields_of_mappings_are_masked_at_any_depth() -> None:
    assert MASKING.mapping(
        {"phone": "1", "in": [{"name": "Jane", "n": 1}], "phones": 2, "name": None, "x": "name: J"}
    ) == {
        "phone": "***",
        "in": [{"name": "***", "n": 1}],
        "phones": 2,
        "name": None,
        "x": "name: ***",
    }


def access(path: str) -> AccessLine:
    return AccessLine(datetime.now(UTC), "GET", path, "/cards/{number}", 200, 1.0, "::1", "r", "t")


@pytest.mark.parametrize("style", ["json", "text"])
def test_neither_cards_nor_persons_are_in_the_log(style: str) -> None:
    reading, writing = os.pipe()
    log = Log(writing, format="json" if style == "json" else "text")
    log.masking = MASKING

    def boom() -> None:
        raise ValueError("no such patient: name='Jane Canary', card 5555 5555 5555 4444")

    log.event("info", "patient.seen", name="Jane Canary", card="4111-1111-1111-1111", number=7)
    log.event("error", "patient.failed", exception=_raised(boom))
    log.access(access("/cards/4111111111111111"))
    log.close()
    os.close(writing)
    written = os.read(reading, 1 << 16).decode()
    os.close(reading)
    assert "Canary" not in written
    assert "1111111111" not in written.replace("-", "")
    assert "5555 5555" not in written
    assert written.count("411111") == 2
    assert "no such patient" in written


def _raised(function: Callable[[], None]) -> BaseException:
    try:
        function()
    except ValueError as error:
        return error
    raise AssertionError("it did not raise")
