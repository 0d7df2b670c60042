"""What can be done to an export without the private key, and where the verifier says that it was done."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit.kit import CUTS, LOG, ORIGIN, SIZE, TRUST, Log, Seen, event, log_of, rewritten, seen, signed, signer
from workhorse.audit.export import MemoryExport
from workhorse.audit.faults import Malformed
from workhorse.audit.report import Fault, render_report
from workhorse.audit.rows import read_row
from workhorse.audit.tiles import Growth, Tile, pack_bundle, unpack_bundle
from workhorse.audit.tree import leaf_hash
from workhorse.audit.verify import verify

ID = {number: str(event(number).id) for number in range(SIZE + 1)}


@dataclass(frozen=True)
class Tampering:
    name: str
    do: Callable[[Log], None]
    found: set[Seen]
    last_good: int | None = 300
    differs: tuple[str, ...] = ()


def edited(log: Log, edit: Callable[[list[bytes]], Any]) -> None:
    lines = log.files["events.ndjson"].splitlines()
    edit(lines)
    log.files["events.ndjson"] = b"".join(line + b"\n" for line in lines)


def changed(number: int, **fields: Any) -> Callable[[Log], None]:
    """One row is another."""

    def do(log: Log) -> None:
        rows = list(log.rows)
        rows[number] = replace(rows[number], **fields)
        log.write_events(list(enumerate(rows)))

    return do


def lines(edit: Callable[[list[bytes]], Any]) -> Callable[[Log], None]:
    return lambda log: edited(log, edit)


def swap(one: int, other: int) -> Callable[[Log], None]:
    def do(log: Log) -> None:
        rows = list(log.rows)
        rows[one], rows[other] = rows[other], rows[one]
        log.write_events(list(enumerate(rows)))

    return do


def inserted(index: int | None) -> Callable[[Log], None]:
    def do(log: Log) -> None:
        rows: list[tuple[int | None, Any]] = list(enumerate(log.rows))
        rows.insert(400, (index, event(SIZE)))
        log.write_events(rows)

    return do


def entry_changed(log: Log, number: int = 350) -> None:
    """The entry and the event agree, and are not what was signed."""
    changed(number, subject="account:mine")(log)
    row = replace(log.rows[number], subject="account:mine")
    tile = Tile(-1, number // 256)
    entries = unpack_bundle(tile, log.files[tile.path])
    entries[number % 256] = row.entry().encode()
    log.files[tile.path] = pack_bundle(entries)


def leaf_changed(log: Log, number: int = 350) -> None:
    """So does the tile of the leaves."""
    entry_changed(log, number)
    path = Tile(0, number // 256).path
    at = number % 256 * 32
    raw = log.files[path]
    leaf = leaf_hash(replace(log.rows[number], subject="account:mine").entry().encode())
    log.files[path] = raw[:at] + leaf + raw[at + 32 :]


def all_tiles_changed(log: Log) -> None:
    other = rewritten().files
    log.files |= {path: raw for path, raw in other.items() if not path.startswith("checkpoint")}


def flipped(path: str, at: int) -> Callable[[Log], None]:
    def do(log: Log) -> None:
        raw = bytearray(log.files[path])
        raw[at] ^= 1
        log.files[path] = bytes(raw)

    return do


def put(path: str, raw: bytes | None) -> Callable[[Log], None]:
    def do(log: Log) -> None:
        if raw is None:
            del log.files[path]
        else:
            log.files[path] = raw

    return do


def checkpoint(edit: Callable[[bytes], bytes]) -> Callable[[Log], None]:
    def do(log: Log) -> None:
        log.files["checkpoint"] = edit(log.files["checkpoint"])

    return do


def forged_history(log: Log) -> None:
    """The holder of the key signed another tree of 300 entries once, and it is still among the checkpoints."""
    growth = Growth()
    growth.append([row.entry().encode() for row in rewritten(300, 250).rows])
    log.files["checkpoints/300"] = signed(300, growth.root()).encode()


def leaf_changed_partial(log: Log, number: int) -> None:
    rows = list(log.rows)
    rows[number] = replace(rows[number], subject="account:mine")
    other = rewritten(changes=number).files
    for path in ("tile/0/002.p/188", "tile/entries/002.p/188", "events.ndjson"):
        log.files[path] = other[path]


def longer(log: Log) -> None:
    log.files["tile/entries/001"] += b"\0\1x"


def copied(log: Log) -> None:
    log.files["tile/entries/001"] = log.files["tile/entries/000"]


C, R, N, D, U = Fault.CHANGED, Fault.REMOVED, Fault.INSERTED, Fault.REORDERED, Fault.UNREADABLE

EVENTS = [
    Tampering("an amount", changed(350, data='{"amount":"1.50"}'), {(C, 350, ID[350])}, 300, ("data",)),
    Tampering("a name in the data", changed(350, data='{"amount2":"1"}'), {(C, 350, ID[350])}, 300, ("data",)),
    Tampering("the subject", changed(350, subject="account:mine"), {(C, 350, ID[350])}, 300, ("subject",)),
    Tampering("the type", changed(0, type="transfer.voided"), {(C, 0, ID[0])}, None, ("type",)),
    Tampering(
        "the time, by a microsecond",
        changed(350, occurred_at=event(350).occurred_at + timedelta(microseconds=1)),
        {(C, 350, ID[350])},
        300,
        ("occurred_at",),
    ),
    Tampering("who did it", changed(351, principal="bob"), {(C, 351, ID[351])}, 300, ("principal",)),
    Tampering("that somebody did it", changed(351, principal=None), {(C, 351, ID[351])}, 300, ("principal",)),
    Tampering("nobody to an empty name", changed(350, principal=""), {(C, 350, ID[350])}, 300, ("principal",)),
    Tampering("the request", changed(699, request_id="r-1"), {(C, 699, ID[699])}, 512, ("request_id",)),
    Tampering("the trace", changed(100, trace_id="0af7"), {(C, 100, ID[100])}, 100, ("trace_id",)),
    Tampering(
        "several fields",
        changed(350, type="a", subject="b", principal="c"),
        {(C, 350, ID[350])},
        300,
        ("type", "subject", "principal"),
    ),
    Tampering("the id", changed(350, id=event(SIZE).id), {(R, 350, ID[350]), (N, 350, ID[SIZE])}),
    Tampering("one event removed", lines(lambda at: at.pop(350)), {(R, 350, ID[350])}),
    Tampering("the first removed", lines(lambda at: at.pop(0)), {(R, 0, ID[0])}, None),
    Tampering("the last removed", lines(lambda at: at.pop()), {(R, 699, ID[699])}, 512),
    Tampering(
        "the events of a bundle's edge removed",
        lines(lambda at: [at.pop(255) for _ in range(3)]),
        {(R, number, ID[number]) for number in (255, 256, 257)},
        100,
    ),
    Tampering(
        "all after a day removed",
        lines(lambda at: at.__delitem__(slice(690, None))),
        {(R, number, ID[number]) for number in range(690, 700)},
        512,
    ),
    Tampering("two swapped", swap(350, 360), {(D, 350, ID[350]), (D, 360, ID[360])}),
    Tampering("two swapped far apart", swap(1, 698), {(D, 1, ID[1]), (D, 698, ID[698])}, None),
    Tampering("a line moved to the end", lines(lambda at: at.append(at.pop(350))), {(D, 350, ID[350])}),
    Tampering("one inserted", inserted(None), {(N, None, ID[SIZE])}, SIZE),
    Tampering("one inserted after the end", lambda log: log.write_events([*enumerate(log.rows), (700, event(SIZE))]),
              {(N, 700, ID[SIZE])}, SIZE),
    Tampering("one twice", lines(lambda at: at.insert(351, at[350])), {(N, 350, ID[350])}),
    Tampering("a line that is no JSON", lines(lambda at: at.__setitem__(350, at[350][:-1])),
              {(U, None, None), (R, 350, ID[350])}),
    Tampering("a name twice in a line",
              lines(lambda at: at.__setitem__(350, at[350].replace(b'"type":', b'"type":"x","type":'))),
              {(U, None, None), (R, 350, ID[350])}),
    Tampering("a field that the log does not cover",
              lines(lambda at: at.__setitem__(350, at[350][:-1] + b',"verified":true}')),
              {(U, None, None), (R, 350, ID[350])}),
    Tampering("the events of another log", put("events.ndjson", b""), {(R, n, ID[n]) for n in range(SIZE)}, None),
]  # fmt: skip

T, E, M, G = Fault.TILE_CHANGED, Fault.ENTRY_CHANGED, Fault.ENTRIES_MISSING, Fault.TILE_MISSING
LOGS = [
    Tampering("an event and its entry", entry_changed, {(E, 350, ID[350]), (C, 350, ID[350])}),
    Tampering(
        "an event, its entry and its leaf",
        leaf_changed,
        {(T, None, None), (E, 256, None), (Fault.ROOT, 300, None)},
        100,
    ),
    Tampering(
        "the same in the last tile, which nothing names",
        lambda log: leaf_changed_partial(log, 600),
        {(T, None, None), (Fault.ROOT, 512, None)},
        512,
    ),
    Tampering("everything but the checkpoints", all_tiles_changed, {(T, None, None), (Fault.ROOT, 300, None)}),
    Tampering("an entry alone", flipped("tile/entries/001", 2 + 20), {(E, 256, ID[256])}, 100),
    Tampering("a leaf alone", flipped("tile/0/001", 32 * 94), {(T, None, None)}, SIZE),
    Tampering("a hash of the last tile", flipped("tile/0/002.p/188", 5), {(T, None, None)}, SIZE),
    Tampering("a hash of a tile above", flipped("tile/1/000.p/2", 5), {(T, None, None)}, SIZE),
    Tampering("a tile cut off", put("tile/0/001", b"x" * 100), {(T, None, None)}, SIZE),
    Tampering("a tile lost", put("tile/0/001", None), {(G, None, None)}, SIZE),
    Tampering("the last tile lost", put("tile/0/002.p/188", None), {(G, None, None)}, SIZE),
    Tampering("a bundle lost", put("tile/entries/001", None), {(M, 256, None)}, 100),
    Tampering("a bundle cut off", put("tile/entries/000", b"\0\3ab"), {(M, 0, None)}, None),
    Tampering("a bundle with an entry more", longer, {(M, 256, None)}, 100),
    Tampering("a bundle in the place of another", copied, {(E, n, ID[n - 256]) for n in range(256, 512)}, 100),
]

K = Fault.CHECKPOINT
CHECKPOINTS = [
    Tampering("the size", checkpoint(lambda raw: raw.replace(b"\n700\n", b"\n699\n")), {(K, None, None)}, SIZE),
    Tampering("the root", put("checkpoint", signed(SIZE, b"0" * 32, by=signer("x")).encode()), {(K, None, None)}, SIZE),
    Tampering("no signature", checkpoint(lambda raw: raw.partition("\u2014".encode())[0]), {(K, None, None)}, SIZE),
    Tampering(
        "signed by another key of the same name",
        put("checkpoint", signed(SIZE, b"0" * 32, by=replace(LOG, seed=b"1" * 32)).encode()),
        {(K, None, None)},
        SIZE,
    ),
    Tampering("of another log", checkpoint(lambda raw: raw.replace(ORIGIN.encode(), b"x/y")), {(K, None, None)}, SIZE),
    Tampering("missing", put("checkpoint", None), {(K, None, None)}, SIZE),
    Tampering("garbage", put("checkpoint", b"\xff" * 100), {(K, None, None)}, SIZE),
    Tampering("an earlier one is garbage", put("checkpoints/300", b""), {(K, None, None)}, SIZE),
    Tampering(
        "an earlier one under another size",
        lambda log: put("checkpoints/299", log.files["checkpoints/300"])(log),
        {(K, None, None)},
        SIZE,
    ),
    Tampering("an earlier one of another history", forged_history, {(Fault.FORKED, 0, None)}, None),
]


@cache
def pristine() -> Log:
    return log_of(SIZE, CUTS)


def fresh() -> Log:
    """A log of its own for each test, without hashing it again."""
    return Log(files=dict(pristine().files), rows=list(pristine().rows))


def test_an_export_that_nobody_touched_is_good() -> None:
    log = log_of(SIZE, CUTS)
    report = log.verify()
    assert report.ok
    assert (report.size, report.entries, report.events, report.checkpoints) == (SIZE, SIZE, SIZE, 5)
    assert report.last_good == SIZE
    assert report.root == log.growth.root()
    assert render_report(report).endswith("OK")


@pytest.mark.parametrize("row", [*EVENTS, *LOGS, *CHECKPOINTS], ids=lambda row: row.name)
def test_a_tampering_is_found_where_it_was_done(row: Tampering) -> None:
    log = fresh()
    row.do(log)
    report = log.verify()
    assert not report.ok
    found = {(one.fault, one.index, one.event_id) for one in report.findings}
    assert found == row.found
    assert report.last_good == row.last_good
    if row.differs:
        assert report.findings[0].differs == row.differs
    assert "NOT OK" in render_report(report)


def test_two_amounts_that_only_a_double_confuses_are_told_apart() -> None:
    log = Log()
    log.add([event(0, data='{"cents": 9007199254740993}')])
    log.write_events([(0, event(0, data='{"cents": 9007199254740992}'))])
    assert seen(log) == {(C, 0, ID[0])}


def test_a_value_that_postgres_spells_otherwise_is_the_same_event() -> None:
    log = Log()
    log.add([event(0, data='{"b": 1e2, "a": "\\u00e9", "c": 1.50}')])
    log.write_events([(0, event(0, data='{"a":"\u00e9","b":100,"c":1.5}'))])
    assert log.verify().ok


def test_a_deletion_is_one_finding_though_every_later_line_stands_elsewhere() -> None:
    log = fresh()
    edited(log, lambda at: at.pop(10))
    report = log.verify()
    assert [finding.index for finding in report.findings] == [10]
    assert report.events == SIZE - 1


def test_what_differs_is_said_with_both_values() -> None:
    log = fresh()
    changed(350, subject="account:mine")(log)
    (finding,) = log.verify().findings
    assert finding.message == 'subject is "account:mine", and was "account:0"'


def test_many_findings_are_counted_and_not_all_listed() -> None:
    log = log_of(2_500)
    log.files["events.ndjson"] = b""
    report = log.verify()
    assert (len(report.findings), report.unlisted) == (1_000, 1_500)
    assert report.events == 0


def test_the_events_of_another_log_are_given_up_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workhorse.audit.alignment.MAX_STRAYS", 50)
    log = fresh()
    log.write_events((index, event(index + SIZE)) for index in range(SIZE))
    report = log.verify()
    assert {one.fault for one in report.findings} == {Fault.TOO_MANY, N, R}
    assert len(report.findings) < 60


def test_without_events_the_log_is_verified_and_the_report_says_that_they_were_not() -> None:
    log = fresh()
    del log.files["events.ndjson"]
    report = log.verify()
    assert report.ok
    assert report.events is None
    assert "not checked: the export has none" in render_report(report)


def test_a_log_without_entries_is_verified() -> None:
    log = Log()
    log.files["checkpoint"] = signed(0, Growth().root()).encode()
    log.files["events.ndjson"] = b""
    report = log.verify()
    assert report.ok
    assert (report.size, report.events, report.last_good) == (0, 0, 0)


def test_an_entry_that_was_changed_does_not_make_its_event_doubtful() -> None:
    log = fresh()
    entry_changed(log)
    log.write_events(list(enumerate(log.rows)))
    report = log.verify()
    assert {(one.fault, one.index) for one in report.findings} == {(E, 350)}
    assert report.events == SIZE


def test_a_tile_that_is_lost_is_made_up_for_by_the_entries() -> None:
    log = fresh()
    del log.files["tile/0/001"]
    report = log.verify()
    assert [one.fault for one in report.findings] == [G]
    assert (report.entries, report.events) == (SIZE, SIZE)


@given(st.data())
@settings(max_examples=150)
def test_no_byte_of_an_export_can_be_changed_unseen(data: st.DataObject) -> None:
    files = small().files
    path = data.draw(st.sampled_from(sorted(files)))
    raw = files[path]
    at = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    other = raw[:at] + bytes([byte]) + raw[at + 1 :]
    report = verify(MemoryExport(files | {path: other}), TRUST)
    if path == "events.ndjson" and read_or_none(other) == read_or_none(raw):
        assert report.ok, "the same events, spelled otherwise, such as with a space for a newline"
    else:
        assert not report.ok


@given(st.dictionaries(st.sampled_from(sorted(["checkpoint", "checkpoints/3", "tile/0/000.p/3", "tile/entries/000.p/3",
       "events.ndjson"])), st.binary(max_size=200)))  # fmt: skip
def test_whatever_an_export_holds_the_verifier_only_reports(files: dict[str, bytes]) -> None:
    assert not verify(MemoryExport(small().files | {"checkpoints/3": b"x"} | files), TRUST).ok


@cache
def small() -> Log:
    return log_of(3)


def read_or_none(raw: bytes) -> list[Any] | None:
    try:
        return [read_row(line) for line in raw.split(b"\n") if line]
    except Malformed:
        return None
