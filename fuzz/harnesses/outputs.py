"""What a stranger's words end in: traces, keys of requests, and the log."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from fuzz.harness import Harness, Splitter, require
from workhorse.telemetry.lines import CONTINUATION, AccessLine, EventLine, json_lines, plain, text_lines
from workhorse.telemetry.redaction import MASK, is_secret_name, redact_mapping, redact_text, redact_url
from workhorse.telemetry.trace import accept_request_id, format_traceparent, parse_traceparent, trace_id_of
from workhorse.units.idempotency import KeyMalformed, parse_key

__all__ = ["HARNESSES"]

SECRET: Final = "Tr0ub4dor3"  # noqa: S105 - what must not be found
MAX_LINE: Final = 400_000
# What a terminal, or a reader of lines, takes for more than a character.
COMMANDS: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

NOW: Final = datetime(2027, 1, 15, tzinfo=UTC)


def fuzz_traceparent(data: bytes) -> None:
    """Two readers agree, and what is read is what is written again."""
    parent = parse_traceparent(data)
    require(trace_id_of(data) == (parent.trace_id if parent is not None else None), "two readers disagree", data)
    if parent is None:
        return
    require(re.fullmatch(rb"[0-9a-f]{32}", parent.trace_id) and int(parent.trace_id, 16), "no trace id", parent)
    require(re.fullmatch(rb"[0-9a-f]{16}", parent.parent_id) and int(parent.parent_id, 16), "no parent id", parent)
    written = format_traceparent(parent.trace_id, parent.parent_id, sampled=parent.sampled, random=parent.random)
    require(parse_traceparent(written) == parent, "written and read again it is another", data, written)
    require(written[3:53] == data[3:53], "something else is written than was read", data, written)


def fuzz_request_id(data: bytes) -> None:
    """A request id that is kept is one word, which is safe wherever it is written."""
    kept = accept_request_id(data)
    require(kept == bool(re.fullmatch(rb"[A-Za-z0-9_.-]{1,128}", data)), "a request id is judged wrongly", data)


def fuzz_idempotency_key(data: bytes) -> None:
    """A key is visible ASCII of a bounded length, and means itself in quotes."""
    try:
        key = parse_key(data)
    except KeyMalformed as problem:
        require(not problem.headers and len(problem.detail) < 200, "the refusal repeats the key", problem.detail)
        return
    require(re.fullmatch(r"[!-~]{1,255}", key), "a key of other characters", key)
    require(parse_key(b'"' + key.encode() + b'"') == key, "in quotes it is another key", key)


def fuzz_lines(data: bytes) -> None:
    """Whatever is logged is one line, in JSON and in text; only a traceback has more, each of them marked."""
    split = Splitter(data)
    words = [_text(split.piece()) for _ in range(3)] + [_text(split.rest())]
    access = AccessLine(NOW, words[0], words[3], words[1], 200, 1.5, words[2], words[0], words[1], words[2])
    fields = plain({words[0]: words[3], "exception": words[1], "list": [words[2], {words[2]: data}], "ts": words[1]})
    event = EventLine(1.8e9, "info", words[2], fields)
    for line in (access, event):
        _check_json(line)
        _check_text(line)


def fuzz_redaction(data: bytes) -> None:
    """A secret behind its name is never seen, whatever stands around it; and the text grows by a bounded number."""
    split = Splitter(data)
    before, after = _text(split.piece()), _text(split.rest())
    planted = ("password=", "token: ", '"api_key": "', "Authorization: Bearer ", "postgresql://jane:")[split.number(5)]
    tail = "@db/bank" if "://" in planted else '"' if planted.endswith('"') else ""
    for redact in (redact_text, redact_url):
        shown = redact(f"{before} {planted}{SECRET}{tail} {after}")
        require(SECRET not in shown, "a secret is shown", before, planted, after)
        require(len(shown) <= 2 * (len(before) + len(after)) + 4096, "the text grows", before, after)
    name = f"{before[:64]}password"
    require(is_secret_name(name), "a name that sounds secret is none", name)
    shown_mapping = redact_mapping({name: SECRET, "a": {"b": [{name: SECRET}]}})
    require(SECRET not in repr(shown_mapping) and MASK in repr(shown_mapping), "a secret is shown", name)


def _text(data: bytes) -> str:
    """Any text, also one with lone surrogates, as undecodable paths have them."""
    return data.decode("utf-8", "surrogateescape")


def _check_json(line: AccessLine | EventLine) -> None:
    written, lost = json_lines([line])
    require(not lost, "a line is lost", line)
    require(written.endswith(b"\n") and written.count(b"\n") == 1, "more than a line", written)
    text = written.decode()
    require(len(text[:-1].splitlines()) == 1 and not COMMANDS.search(text), "a reader sees several lines", written)
    require(len(written) <= MAX_LINE, "the line is long", len(written))
    record: dict[str, Any] = json.loads(text)
    require(record["ts"].startswith("2027-01-15T") and record["level"] == "info", "a field of ours is replaced", record)


def _check_text(line: AccessLine | EventLine) -> None:
    written, lost = text_lines([line])
    require(not lost, "a line is lost", line)
    text = written.decode()
    first, *others = text[:-1].splitlines()
    require(re.match(r"\d\d:\d\d:\d\d\.\d{3} ", first), "the line does not begin with the time", first)
    require(all(other.startswith(CONTINUATION) for other in others), "a line that is not marked", text)
    require(isinstance(line, EventLine) or not others, "a request of several lines", text)
    require(not COMMANDS.search(text), "a command for the terminal", text)


HARNESSES: Final = (
    Harness(
        name="outputs.traceparent",
        run=fuzz_traceparent,
        seeds=(
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more",
            b"ff-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00",
        ),
        max_bytes=128,
    ),
    Harness(name="outputs.request_id", run=fuzz_request_id, seeds=(b"abc-1.2_3", b"a" * 129, b"a\n"), max_bytes=256),
    Harness(name="outputs.idempotency_key", run=fuzz_idempotency_key, seeds=(b'"k-1"', b"k", b'""a""'), max_bytes=512),
    Harness(
        name="outputs.lines",
        run=fuzz_lines,
        seeds=(
            b"\x03GET\x02/a\x09127.0.0.1/path\xe2\x80\xa8x",
            b"\x01\n\x01\r\x01\x1b\xff\xc2\x85",
            b"\x05event\x02ts\x00",
        ),
    ),
    Harness(
        name="outputs.redaction",
        run=fuzz_redaction,
        seeds=(
            b"\x06token:\x02",
            b"\x08token='a\x00b",
            b'\x0a://u:p@h \\"\x01',
            b"\x1b-----BEGIN PRIVATE KEY-----\x02",
        ),
    ),
)
