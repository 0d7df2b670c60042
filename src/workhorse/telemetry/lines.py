"""What happened, as lines: JSON for machines, text for people. Pure functions, which the log's thread calls.

No value can begin a line of its own (CWE-117). In JSON, what the encoder leaves raw although some reader takes it for
a line end or a terminal for a command (DEL, C1 controls, U+2028, bidirectional controls) is escaped as well. In text,
whatever is not printable is escaped, and a value with blanks or quotes is quoted; only a traceback has further
lines, each of which begins with a mark that no event begins with.
"""

import json
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from workhorse.telemetry.cards import mask_cards
from workhorse.telemetry.masking import NOTHING_MASKED, Masking
from workhorse.telemetry.redaction import redact_mapping

__all__ = ["CONTINUATION", "AccessLine", "EventLine", "Level", "json_lines", "plain", "render_exception", "text_lines"]

Level: TypeAlias = Literal["debug", "info", "warning", "error"]

CONTINUATION: Final = "    | "
MAX_STRING: Final = 8192
MAX_ITEMS: Final = 100
MAX_DEPTH: Final = 6
MAX_FRAMES: Final = 50
DIGITS: Final = re.compile(r"[0-9][0-9 -]{11}")
"""What a card's number in a path has, and few other paths."""
RESERVED: Final = frozenset(("ts", "level", "event"))
INT64: Final = 1 << 63
# What JSON may hold raw and no line should: each is one or three bytes of UTF-8 in the encoder's output.
UNSAFE_IN_JSON: Final = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
BARE_TEXT: Final = re.compile(r"[^\s\"'=\\]+")
STATUS_COLOURS: Final = {2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m"}
LEVEL_COLOURS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
RESET: Final = "\x1b[0m"


class AccessLine(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="access"):
    """One request that was answered: as it stands in JSON, so that the encoder takes it as it is.

    Its strings are kept as they are, so none may hold a secret. Card numbers alone are masked, in its path.
    """

    ts: datetime
    """When it was answered, in UTC."""
    method: str
    path: str
    """Without the query, which may hold anything."""
    route: str
    """The template that the path matched, such as /accounts/{id}; empty where none did."""
    status: int
    duration_ms: float
    client: str
    """The caller's address, as far as the proxies in front are trusted."""
    request_id: str
    trace_id: str
    control: str = ""
    """The control that refused the request; empty where none did."""
    bytes_out: int = 0
    """Bytes of the reply's body."""
    level: Level = "info"


class EventLine(msgspec.Struct, frozen=True, gc=False):
    """Something else that happened. `fields` are `plain`, so that nobody changes them meanwhile."""

    ts: float
    level: Level
    event: str
    fields: dict[str, Any]


Line: TypeAlias = AccessLine | EventLine
ENCODER: Final = msgspec.json.Encoder()


def plain(value: object, depth: int = 0) -> Any:
    """A bounded copy of `value` of nothing but what JSON knows; an exception becomes its traceback.

    Never raises: what cannot even be written as a string is named by its type.
    """
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is str:
        return _cut(cast("str", value))
    if kind is int:
        return value if -INT64 <= cast("int", value) < INT64 else _cut(f"{value:#x}")
    try:
        return _plain_object(value, depth)
    except Exception:  # noqa: BLE001 - an object of the app may raise anything, and a log line must not
        return f"<{kind.__qualname__} that cannot be written>"


def render_exception(error: BaseException) -> str:
    """The traceback of `error` and its causes, as Python prints it: the innermost 50 frames of each, without locals.

    What is beyond 8192 characters is left out of the middle: the end says what failed.
    """
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-MAX_FRAMES)).rstrip("\n")
    if len(text) <= MAX_STRING:
        return text
    half = MAX_STRING // 2
    return f"{text[:half]}\n... ({len(text) - 2 * half} characters left out)\n{text[-half:]}"


def json_lines(lines: list[Line], *, masking: Masking = NOTHING_MASKED) -> tuple[bytes, int]:
    """Each line as one JSON object on one line; and how many could not be written at all."""
    try:
        records = [_record(line, masking) for line in lines]
        return _escape_json(ENCODER.encode_lines(records)), 0
    except Exception:  # noqa: BLE001 - one bad value must not take its neighbours with it, so line by line
        return _one_by_one(lines, lambda line: _escape_json(ENCODER.encode(_mended(_record(line, masking))) + b"\n"))


def text_lines(lines: list[Line], *, colours: bool = False, masking: Masking = NOTHING_MASKED) -> tuple[bytes, int]:
    """Each line for a person at a terminal, in local time; and how many could not be written at all."""
    return _one_by_one(lines, lambda line: _text(line, masking, colours=colours).encode(errors="backslashreplace"))


def _one_by_one(lines: list[Line], render: Callable[[Line], bytes]) -> tuple[bytes, int]:
    parts: list[bytes] = []
    for line in lines:
        try:
            parts.append(render(line))
        except Exception:  # noqa: BLE001, S112 - see json_lines; the caller counts what is lost
            continue
    return b"".join(parts), len(lines) - len(parts)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_STRING else f"{text[:MAX_STRING]}... ({len(text) - MAX_STRING} more characters)"


def _plain_object(value: object, depth: int) -> Any:
    if isinstance(value, BaseException):
        return render_exception(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return repr(bytes(value[:MAX_STRING]))
    if isinstance(value, Mapping):
        items = tuple(cast("Mapping[object, object]", value).items())
        return "{...}" if depth >= MAX_DEPTH else _plain_items(items, depth)
    if isinstance(value, list | tuple | set | frozenset):
        some = tuple(cast("Iterable[object]", value))
        return "[...]" if depth >= MAX_DEPTH else [plain(item, depth + 1) for item in some[:MAX_ITEMS]]
    return _cut(str(value))


def _plain_items(items: tuple[tuple[object, object], ...], depth: int) -> dict[str, Any]:
    return {_cut(str(name)): plain(item, depth + 1) for name, item in items[:MAX_ITEMS]}


def _record(line: Line, masking: Masking) -> AccessLine | dict[str, Any]:
    if isinstance(line, AccessLine):
        return line if DIGITS.search(line.path) is None else replace(line, path=mask_cards(line.path))
    when = datetime.fromtimestamp(line.ts, UTC)
    return {"ts": when, "level": line.level, "event": masking.text(line.event), **_safe_fields(line.fields, masking)}


def _safe_fields(fields: dict[str, Any], masking: Masking) -> dict[str, Any]:
    """The fields redacted; one that has the name of ours gets an underscore, so that it cannot pass for it."""
    redacted = masking.mapping(redact_mapping(fields))
    for name in RESERVED & redacted.keys():
        redacted[f"{name}_"] = redacted.pop(name)
    return redacted


def _mended(record: AccessLine | dict[str, Any]) -> Any:
    """A record without what the encoder refuses: lone surrogates (from undecodable file names and paths)."""
    fields = record if isinstance(record, dict) else {"event": "access", **msgspec.structs.asdict(record)}
    return {_encodable(name): _encodable(value) for name, value in fields.items()}


def _encodable(value: object) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in cast("dict[object, object]", value).items()}
    if isinstance(value, list):
        return [_encodable(item) for item in cast("list[object]", value)]
    return value


def _escape_json(data: bytes) -> bytes:
    if data.isascii() and b"\x7f" not in data:
        return data
    return UNSAFE_IN_JSON.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), data)


def _text(line: Line, masking: Masking, *, colours: bool) -> str:
    when = line.ts if isinstance(line, AccessLine) else datetime.fromtimestamp(line.ts, UTC)
    clock = when.astimezone().strftime("%H:%M:%S.%f")[:-3]
    if isinstance(line, EventLine):
        return _text_event(clock, line, masking, colours=colours)
    status = _coloured(str(line.status), STATUS_COLOURS.get(line.status // 100, "") if colours else "")
    refused = f" refused by {_bare(line.control)}" if line.control else ""
    return (
        f"{clock} {_bare(line.method):<7} {status} {line.duration_ms:8.2f} ms {_bare(mask_cards(line.path))}{refused}\n"
    )


def _text_event(clock: str, line: EventLine, masking: Masking, *, colours: bool) -> str:
    fields = masking.mapping(redact_mapping(line.fields))
    exception = fields.pop("exception", None)
    level = _coloured(f"{line.level:<7}", LEVEL_COLOURS[line.level] if colours else "")
    text = f"{clock} {level} {_bare(masking.text(line.event))}"
    text += "".join(f" {_bare(name)}={_field(value)}" for name, value in fields.items())
    if exception is not None:
        text += "".join(f"\n{CONTINUATION}{_printable(part)}" for part in str(exception).splitlines())
    return text + "\n"


def _field(value: object) -> str:
    return _bare(value) if isinstance(value, str) else _printable(json.dumps(value, ensure_ascii=False))


def _bare(value: str) -> str:
    """The value as it is where it is one printable word; else quoted, so that it cannot pass for several."""
    if BARE_TEXT.fullmatch(value) and value.isprintable():
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def _coloured(text: str, colour: str) -> str:
    return f"{colour}{text}{RESET}" if colour else text
