import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workhorse.telemetry.lines import (
    CONTINUATION,
    AccessLine,
    EventLine,
    Line,
    json_lines,
    plain,
    render_exception,
    text_lines,
)

HOSTILE = 'x\r\n2026-01-01 {"event":"forged"}\x1b[2J\x85\u2028\u2029\x7f\x9b31m\u202e'
text = st.text(alphabet=st.characters(), max_size=30) | st.sampled_from([HOSTILE, "\n", "a b", 'a" status="200', ""])
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | text | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
START = re.compile(r"\d\d:\d\d:\d\d\.\d\d\d ")


def fail(message: str, cause: Exception | None = None) -> None:
    raise ValueError(message) from cause


def access_line(hostile: str) -> AccessLine:
    return AccessLine(
        datetime.fromtimestamp(0.5, UTC), hostile, hostile, hostile, 200, 1.5, hostile, hostile, hostile, hostile, 0
    )


def unsafe(data: str) -> list[str]:
    return [c for c in data if c != "\n" and not c.isprintable() and (ord(c) < 0x100 or c in "\u2028\u2029\u202e")]


@given(st.lists(text, min_size=1, max_size=4), st.dictionaries(text, values, max_size=3))
@example([HOSTILE], {HOSTILE: HOSTILE, "exception": HOSTILE})
@example(["\udcff"], {"\udcff": {"\ud800": ["\udfff"]}})
def test_no_value_can_begin_a_line_of_its_own_in_json(strings: list[str], fields: dict[str, Any]) -> None:
    lines: list[Line] = [access_line(value) for value in strings]
    lines.append(EventLine(1.5, "info", strings[0], plain(fields)))
    data, lost = json_lines(lines)
    assert lost == 0
    decoded = data.decode()
    written = decoded.splitlines()
    assert len(written) == len(lines)
    assert [c for c in unsafe(decoded) if c not in {"\xa0", "\xad"}] == []
    for value, line in zip(strings, written, strict=False):
        record = json.loads(line)
        assert record["event"] == "access"
        assert record["path"] == value.encode(errors="backslashreplace").decode()
    assert json.loads(written[-1])["level"] == "info"


@given(st.lists(text, min_size=1, max_size=4), st.dictionaries(text, values, max_size=3))
@example([HOSTILE], {HOSTILE: HOSTILE, "exception": HOSTILE})
@example(["\udcff"], {"\udcff": {"\ud800": ["\udfff"]}, "exception": "a\nb"})
def test_no_value_can_begin_an_event_of_its_own_in_text(strings: list[str], fields: dict[str, Any]) -> None:
    lines: list[Line] = [access_line(value) for value in strings]
    lines.append(EventLine(1.5, "info", strings[0], plain(fields)))
    data, lost = text_lines(lines)
    assert lost == 0
    written = data.decode().splitlines()
    assert unsafe(data.decode()) == []
    events = [line for line in written if START.match(line)]
    assert len(events) == len(lines)
    assert all(line.startswith(CONTINUATION) for line in written if line not in events)


def test_a_value_with_blanks_or_quotes_cannot_pass_for_several_fields() -> None:
    data, _ = text_lines([EventLine(1.5, "info", "login", {"user": 'x" ok=true', "path": "a b=c"})])
    assert data.decode()[12:] == ' info    login user="x\\" ok=true" path="a b=c"\n'


def test_a_traceback_is_readable_in_text_and_one_field_in_json() -> None:
    with pytest.raises(ValueError, match="first") as caught:
        fail("first\n12:00:00.000 error forged")
    line = EventLine(1.5, "error", "failed", plain({"exception": caught.value}))
    data, _ = text_lines([line])
    written = data.decode().splitlines()
    assert written[0].endswith("error   failed")
    assert written[1] == f"{CONTINUATION}Traceback (most recent call last):"
    assert written[-1] == f"{CONTINUATION}12:00:00.000 error forged"
    record = json.loads(json_lines([line])[0])
    assert record["exception"].endswith("ValueError: first\n12:00:00.000 error forged")


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    with pytest.raises(ValueError, match="the end") as caught:
        fail("x" * 50_000 + "the end")
    rendered = render_exception(caught.value)
    assert len(rendered) < 8400
    assert rendered.startswith("Traceback")
    assert rendered.endswith("the end")


def test_a_cause_is_part_of_the_traceback() -> None:
    with pytest.raises(ValueError, match="outer") as caught:
        fail("outer", KeyError("inner"))
    rendered = render_exception(caught.value)
    assert rendered.index("KeyError: 'inner'") < rendered.index("direct cause") < rendered.index("ValueError: outer")


@given(values)
def test_a_plain_copy_is_always_json(value: Any) -> None:
    json.dumps(plain(value))


def test_a_structure_that_holds_itself_is_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "[...]" in json.dumps(plain(endless))
