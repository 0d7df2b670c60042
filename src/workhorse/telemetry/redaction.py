"""Secrets masked in what is about to be logged: URLs, free text, and mappings by the names of their keys.

It is a net below the rule that secrets are not logged at all, so it masks too much rather than too little: whatever
stands after a key that sounds secret, the password of any URL and the codes in its query, bearer tokens, what has the
shape of a JWT or of an API key of ours, private keys in PEM, numbers of payment cards, and the rows that Postgres
quotes in its errors. A secret with neither a name nor a shape cannot be known.

The cost is bounded: text beyond 16 KiB is cut (a part that was not looked at must not get out), a search for a few
plain words lets most texts pass at once, and every regular expression is linear: it begins at a literal, and its
repetitions are possessive or short.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from workhorse.telemetry.cards import mask_cards

__all__ = ["MASK", "is_secret_name", "redact_mapping", "redact_text", "redact_url"]

MASK: Final = "***"
MAX_CHARACTERS: Final = 16 * 1024
MAX_DEPTH: Final = 8

HINTS: Final = (
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "cred",
    "auth",
    "cookie",
    "sig",
    "session",
    "__host-",
    "__secure-",
    "bearer",
    "code=",
    "state=",
    "otp=",
    "ticket=",
    "eyj",
    "failing row",
    "input syntax",
    "://",
)
"""Every text that one of the expressions below can match holds one of these, in lower case. ("key" is in PEM's too.)"""

NAME: Final = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|encryption[-_]?key"
    r"|credentials?|signature|__(?:host|secure)-[a-z0-9_.-]{1,64}+)"
)
SECRET_NAME: Final = re.compile(NAME + r"|authorization|cookie|(?:^|[^a-z])(?:pass|sig|session[-_]?id)$", re.IGNORECASE)

# `name=`, `name: `, `"name": `, and the pair `('name', ` of a printed list of headers or parameters.
SEPARATOR: Final = r"(?:\\?[\"']?\s{0,4}[=:]|[\"'],)\s{0,4}"
QUOTED: Final = r"(b?\")(?:[^\"\\]|\\.?)*+(\"?)|(b?')(?:[^'\\]|\\.?)*+('?)"
"""A quoted value, to its end even where a quote is escaped or the text is cut: group 2 to 5 are the quotes, kept."""

HEADER: Final = re.compile(rf"((?:authorization|cookie){SEPARATOR})(?:{QUOTED}|[^\r\n]++)", re.IGNORECASE | re.DOTALL)
WORD: Final = r"(?:\"(?:[^\"\\]|\\.?)*+\"?|'(?:[^'\\]|\\.?)*+'?|[^\s,;&]++)"
# What was taken for a value may be a name itself, as where `token: ` stands before a printed mapping: then what follows
# it is the value.
NAMED_VALUE: Final = rf"(?:\s{{0,4}}[=:]\s{{0,4}}{WORD}|(?<=[=:])\s{{1,4}}{WORD})*+"
PAIR: Final = re.compile(
    rf"((?:{NAME}[\w-]{{0,32}}|(?<![a-z])(?:pass|sig|session[-_]?id)){SEPARATOR})"
    rf"(?:(?:{QUOTED}){NAMED_VALUE}|[^\s,;&]++{NAMED_VALUE})",
    re.IGNORECASE | re.DOTALL,
)
BEARER: Final = re.compile(r"(\bbearer\s{1,4})[A-Za-z0-9._~+/=-]{16,}+", re.IGNORECASE)
JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]{16,}+(?:\.[A-Za-z0-9_-]*+){0,4}")
# `brand_` 12 characters `_` 49 characters (see `identity.key_text`): the public part is kept, it says which key it was.
API_KEY: Final = re.compile(r"((?<![0-9A-Za-z])[0-9A-Za-z]{12}_)[0-9A-Za-z]{49}(?![0-9A-Za-z])")
# What stands in the query of a URL for a minute, and opens a session or an account (RFC 6749, section 4.1.2; RFC 9700).
# Only there: elsewhere these are ordinary words.
QUERY: Final = re.compile(r"([?&](?:code|state|otp|ticket)=)[^\s&#\"']++", re.IGNORECASE)
PEM: Final = re.compile(
    r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----).*?"
    r"(?:(-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)|\Z)",
    re.DOTALL,
)
# `scheme://user:password@host`. A port is no password; a raw slash in a password is against the rules, and happens.
URL_PASSWORD: Final = re.compile(
    r"(://[^\s/:@?#]{0,128}+:)(?!\d{1,5}(?:[/?#\s,\"']|$))(?:[^\s/?#]{0,512}@|\S{0,512}@)",
)

# Postgres quotes what an app wrote: `Key (phone)=(555-1234) already exists.`, `Failing row contains (7, Jane, ...).`,
# `invalid input syntax for type integer: "Jane"`. Values of rows may be of persons; which columns they are of may stay.
POSTGRES_KEY: Final = re.compile(
    r"(\bKey \([^\n]{0,512}?\)=\().*?(?:(\) (?:already exists|is not present|is still referenced|conflicts with))|\Z)",
    re.DOTALL,
)
POSTGRES_ROW: Final = re.compile(r"(\bFailing row contains \().*?(?:(\)\.)(?=\n|\Z)|\Z)", re.DOTALL)
POSTGRES_INPUT: Final = re.compile(
    r"(\binvalid input syntax for type [a-z ]{1,64}+: )(\").*?(?:(\")(?=\n|\Z)|\Z)", re.DOTALL
)


def is_secret_name(name: str) -> bool:
    """Whether a key, parameter or header of this name holds a secret."""
    return SECRET_NAME.search(name[:256]) is not None


def redact_text(text: str) -> str:
    """Mask what looks like a secret; cut what is beyond 16 KiB."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]}... ({len(text) - MAX_CHARACTERS} more characters)"
    text = mask_cards(text)
    if "_" in text:
        text = API_KEY.sub(rf"\1{MASK}", text)
    lowered = text.lower()
    if not any(hint in lowered for hint in HINTS):
        return text
    text = POSTGRES_KEY.sub(lambda match: f"{match[1]}{MASK}{match[2] or ''}", text)
    text = POSTGRES_ROW.sub(lambda match: f"{match[1]}{MASK}{match[2] or ''}", text)
    text = POSTGRES_INPUT.sub(lambda match: f"{match[1]}{match[2]}{MASK}{match[3] or ''}", text)
    text = PEM.sub(lambda match: f"{match[1]}{MASK}{match[2] or ''}", text)
    text = URL_PASSWORD.sub(rf"\1{MASK}@", text)
    text = JWT.sub(MASK, text)
    text = QUERY.sub(rf"\1{MASK}", text)
    text = HEADER.sub(_mask_value, text)
    text = PAIR.sub(_mask_value, text)
    return BEARER.sub(rf"\1{MASK}", text)


def redact_url(url: str) -> str:
    """Mask the password of a URL or of a libpq connection string, and secret parameters (`password=`, `token=`).

    A malformed URL is masked as far as it can be read, never refused: it may be on its way into an error message.
    """
    return redact_text(url)


def redact_mapping(mapping: Mapping[str, object]) -> dict[str, Any]:
    """A copy in which the values of secret names are masked, and all other strings redacted, to a depth of 8."""
    return _redact_mapping(mapping, 0)


def _mask_value(match: re.Match[str]) -> str:
    before, *quotes = match.groups(default="")
    return f"{before}{quotes[0]}{quotes[2]}{MASK}{quotes[1]}{quotes[3]}"


def _redact_mapping(mapping: Mapping[str, object], depth: int) -> dict[str, Any]:
    return {name: MASK if is_secret_name(name) else _redact(value, depth) for name, value in mapping.items()}


def _redact(value: object, depth: int) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        names = cast("Mapping[object, object]", value)
        return MASK if depth >= MAX_DEPTH else _redact_mapping({str(k): v for k, v in names.items()}, depth + 1)
    if isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        return MASK if depth >= MAX_DEPTH else [_redact(item, depth + 1) for item in items]
    return value
