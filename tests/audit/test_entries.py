"""The entry of an event is made again from its row, byte for byte, whatever the database made of the spelling."""

import asyncio
import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.kit import event
from tests.units.databases import Sql, on
from workhorse.audit.canonical import canonical_json
from workhorse.audit.entries import MAX_ENTRY_BYTES, MAX_TEXT_BYTES, Entry, EventRow, entry_id
from workhorse.audit.faults import EntryRefused, Malformed
from workhorse.audit.rows import read_row, write_row
from workhorse.audit.tree import leaf_hash
from workhorse.journal import Event
from workhorse.units import Unit

SELECT = """
SELECT id, type, subject, data::text, occurred_at, request_id, trace_id, principal
  FROM workhorse.events ORDER BY subject
"""
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
rows = st.builds(
    EventRow,
    id=st.uuids(),
    type=texts,
    subject=texts,
    data=st.dictionaries(texts, st.integers() | texts | st.none()).map(json.dumps),
    occurred_at=st.datetimes(timezones=st.just(UTC)),
    request_id=st.none() | texts,
    trace_id=st.none() | texts,
    principal=st.none() | texts,
)

DATA: list[Any] = [
    {"amount": "12.50", "cents": 9007199254740993},
    {"b": 1e300, "a": 5e-324, "A": 1.50, "zero": -0.0},
    {"\U0001f600": 1, "\ufb33": 2, 'quote"\\/\n\x7f': "\u2028\u00e9"},
    {"deep": [[[[{"x": [None, True, False, {}, []]}]]]], "float": float("nan")},
    {},
]


def test_an_entry_is_written_as_the_format_says() -> None:
    assert event(3).entry().encode().decode() == (
        '{"data_sha256":"' + sha256('{"amount":"3.50","cents":350,"to":"Zo\u00eb"}'.encode()).hexdigest() + '"'
        ',"id":"01900000-0003-7000-8000-000000000003","occurred_at":"2026-03-01T12:00:03.000000Z","principal":"alice"'
        ',"request_id":"r-3","subject":"account:3","trace_id":null,"type":"transfer.posted","v":1}'
    )


@pytest.mark.slow
def test_an_entry_is_made_again_from_the_row_in_postgres(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        emitted: list[Event] = []
        async with Unit(database) as work:
            emitted = [
                await work.emit("thing.happened", subject=f"thing:{number}", data=data)
                for number, data in enumerate(DATA)
            ]
        entries = {one.subject: EventRow.of(one).entry().encode() for one in emitted}
        found = [EventRow(**dict(zip(columns(), row, strict=True))) for row in sql(SELECT)]
        assert {row.subject: row.entry().encode() for row in found} == entries
        sql("SET TIME ZONE 'Asia/Kathmandu'")
        again = [EventRow(**dict(zip(columns(), row, strict=True))) for row in sql(SELECT)]
        assert [row.entry().encode() for row in again] == [row.entry().encode() for row in found]

    asyncio.run(on("pool", database_url, script))


def columns() -> list[str]:
    return [field.name for field in fields(EventRow)]


@given(rows)
def test_an_entry_is_canonical_and_read_as_it_was_written(row: EventRow) -> None:
    raw = row.entry().encode()
    assert canonical_json(raw) == raw
    assert Entry.decode(raw) == row.entry()
    assert entry_id(raw) == str(row.id)
    assert row.entry().leaf() == leaf_hash(raw)


@given(rows, st.none() | st.integers(0, 2**62))
def test_a_line_of_an_export_makes_the_entry_of_its_row(row: EventRow, index: int | None) -> None:
    read = read_row(write_row(index, row))
    assert read.index == index
    assert read.entry == row.entry()
    assert read.data == canonical_json(row.data)


@given(rows, rows)
def test_two_entries_are_the_same_only_if_every_field_is(one: EventRow, other: EventRow) -> None:
    for name in columns():
        changed = replace(one, **{name: getattr(other, name)})
        is_same = getattr(one, name) == getattr(other, name)
        if name == "data":
            is_same = canonical_json(one.data) == canonical_json(other.data)
        assert (changed.entry().encode() == one.entry().encode()) == is_same
        assert one.entry().differences(changed.entry()) == (() if is_same else (name,))


def test_a_time_is_one_moment_in_whatever_zone_it_was_given() -> None:
    there = event(1).occurred_at.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert event(1, occurred_at=there).entry() == event(1).entry()


@pytest.mark.parametrize("text", ["x" * (MAX_TEXT_BYTES + 1), "\u20ac" * 400, "\x01" * 70_000])
def test_a_text_without_bound_stands_as_its_digest(text: str) -> None:
    raw = event(1, principal=text, subject=text, type=text, trace_id=text, request_id=text).entry().encode()
    assert len(raw) < 2_000
    digest = f'{{"bytes":{len(text.encode())},"sha256":"{sha256(text.encode()).hexdigest()}"}}'
    assert raw.count(digest.encode()) == 5
    assert Entry.decode(raw).encode() == raw


def test_the_longest_entry_fits_into_a_bundle() -> None:
    text = "\x01" * MAX_TEXT_BYTES
    raw = event(1, principal=text, subject=text, type=text, trace_id=text, request_id=text).entry().encode()
    assert 30_000 < len(raw) < MAX_ENTRY_BYTES


@pytest.mark.parametrize(
    ("field", "value"),
    [("data", "{"), ("data", '{"a":NaN}'), ("data", b"\xff"), ("subject", "\ud800"), ("principal", "\udfff" * 2_000),
     ("occurred_at", event(1).occurred_at.replace(tzinfo=None)),
     ("occurred_at", datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))))],
    ids=["no JSON", "NaN", "bytes", "surrogate", "long surrogates", "no zone", "year 10000"],
)  # fmt: skip
def test_what_has_no_entry_is_refused(field: str, value: object) -> None:
    with pytest.raises(EntryRefused):
        event(1, **{field: value}).entry()


GOOD = event(1).entry().encode()


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"null", b"[]", b"\xff", GOOD + b"\n", b" " + GOOD, GOOD.replace(b'"v":1', b'"v":2'),
     GOOD.replace(b'"v":1', b'"v":1.0'), GOOD.replace(b',"v":1', b""), GOOD.replace(b'"v":1', b'"v":1,"w":1'),
     GOOD.replace(b"0190", b"019A"), GOOD.replace(b'"id":"', b'"id":"{'), GOOD.replace(b"000000Z", b"000000+00:00"),
     GOOD.replace(b".000000Z", b"Z"), GOOD.replace(b"account", b"\\u0061ccount"),
     GOOD.replace(b'"type":"', b'"type":null,"x":"'),
     GOOD.replace(b'"trace_id":null', b'"trace_id":{"bytes":5,"sha256":"' + b"a" * 64 + b'"}'),
     GOOD.replace(b'"trace_id":null', b'"trace_id":{"bytes":5000,"sha256":"short"}'),
     GOOD.replace(b'"trace_id":null', b'"trace_id":"' + b"a" * 2_000 + b'"'), b"[" * 50_000,
     b'{"a":1,' + GOOD[1:], GOOD.replace(b'"data_sha256":"', b'"data_sha256":"A')],
)  # fmt: skip
def test_what_is_no_entry_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        Entry.decode(raw)


@given(st.binary(max_size=200) | st.integers(0, len(GOOD) - 1).map(lambda at: GOOD[:at] + b"0" + GOOD[at + 1 :]))
def test_any_bytes_are_an_entry_in_its_only_spelling_or_refused(raw: bytes) -> None:
    try:
        entry = Entry.decode(raw)
    except Malformed:
        entry_id(raw)
        return
    assert entry.encode() == raw


LINE = write_row(5, event(1))


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"null", LINE[:-1], LINE + b"}", LINE.replace(b'"index":5', b'"index":-1'), b"x" + LINE,
     LINE.replace(b'"index":5', b'"index":5.5'), LINE.replace(b'"index":5', b'"index":9223372036854775807'),
     LINE.replace(b'"index":5,', b""), LINE.replace(b'"index":5', b'"index":5,"index":6'),
     LINE.replace(b"0190", b"019A"),
     LINE.replace(b'"cents"', b'"amount"'), LINE.replace(b".000000Z", b"Z"), LINE.replace(b'"type":', b'"kind":'),
     LINE.replace(b"000000Z", b"000000"), LINE.replace(b'"subject":"', b'"subject":null,"x":"'), b"[" * 100_000,
     b"[" * 100_000 + b"]" * 100_000, LINE.replace(b'"index":5', b'"index":' + b"[" * 50_000 + b"]" * 50_000),
     LINE.replace(b'"index":5', b'"index":"5"'), LINE.replace(b'"index":5', b'"index":1e30'), b'"text"', b"5"],
)  # fmt: skip
def test_what_is_no_line_of_an_event_is_refused(line: bytes) -> None:
    with pytest.raises(Malformed):
        read_row(line)


def test_a_deep_row_has_an_entry_and_a_line() -> None:
    deep = event(1, data='{"a":' * 60_000 + "1" + "}" * 60_000)
    assert read_row(write_row(0, deep)).entry == deep.entry()


def test_an_id_is_found_in_what_is_left_of_an_entry() -> None:
    identity = UUID(int=7)
    assert entry_id(b'{"id":"%s","x":1}' % str(identity).encode()) == str(identity)
    for lost in (b"", b"[]", b'{"id":5}', b'{"id":"x"}', b"\xff", b"{}", b"[" * 100_000):
        assert entry_id(lost) is None
