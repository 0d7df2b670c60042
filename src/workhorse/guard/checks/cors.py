"""Which other origins' pages may read replies, and what they may send: the Fetch standard's CORS protocol.

Everything a reply needs is made once per listed origin, so that a request costs a look-up. CORS loosens the browser's
own rule and protects nothing by itself: a request from an origin that is not listed is served, and its page cannot
read the reply. That it has no effect is the work of `checks.csrf`.

A preflight is answered here and never reaches the app. Where no origin is configured, preflights and replies pass as
they are, so that an app may do it all by itself.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from workhorse.asgi import Reply
from workhorse.errors import SettingsError
from workhorse.guard.facts import Facts
from workhorse.guard.problems import CrossOriginRefused
from workhorse.guard.verdict import Refusal

__all__ = [
    "CorsRules",
    "Origins",
    "check_preflight",
    "compile_cors",
    "compile_origins",
    "cors_headers",
    "is_listed",
]

Fields = tuple[tuple[bytes, bytes], ...]

# https://fetch.spec.whatwg.org/#cors-safelisted-method and #cors-safelisted-request-header. A content type that is
# not safelisted is asked for by its name alone; a page that may send a request at all may say what is in it.
SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST"})
SAFE_HEADERS: Final = frozenset({b"accept", b"accept-language", b"content-language", b"content-type", b"range"})
MAX_HEADERS_ASKED: Final = 64
MAX_AGE_SECONDS: Final = 86_400
"""No browser remembers a preflight for longer (Firefox; Chromium: 7,200)."""

VARY: Final[Fields] = ((b"vary", b"Origin"),)

_LABEL: Final = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_ORIGIN: Final = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    rf"(?P<host>\*(?:\.{_LABEL}){{2,}}|{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
)
_SUBDOMAIN: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DEFAULT_PORTS: Final[Mapping[str, str]] = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """A list of origins, as their browsers write them."""

    exact: frozenset[bytes]
    suffixes: tuple[tuple[bytes, bytes], ...]
    """For `https://*.example.com:8443`: `https://` and `.example.com:8443`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsRules:
    """What the pages of other origins may do."""

    enabled: bool
    any_origin: bool
    origins: Origins
    replies: Mapping[bytes, Fields]
    """What the reply to a listed origin gets."""
    tail: Fields
    """The same without `access-control-allow-origin`, for an origin that matches a suffix."""
    others: Fields
    """What any other reply gets."""
    preflight: Fields
    """What the reply to a preflight gets besides."""
    methods: frozenset[bytes]
    headers: frozenset[bytes]
    """In lower case."""


def compile_origins(setting: str, origins: Iterable[str]) -> Origins:
    """Compile a list of origins (RFC 6454, section 6.2: scheme, host, and port if it is not the scheme's own).

    `https://*.example.com` stands for every host below `example.com`. It is as safe as the weakest of them: a
    forgotten name that points to a cloud host that anybody may rent, or a page with an injection, speaks for it.

    Args:
        setting: the name of the setting, for messages.
        origins: the list.

    Raises:
        SettingsError: one is malformed, or can never match.
    """
    exact: set[bytes] = set()
    suffixes: list[tuple[bytes, bytes]] = []
    for origin in origins:
        match = _ORIGIN.fullmatch(origin)
        if match is None:
            raise SettingsError(f"{setting} has {origin!r}, {_origin_fault(origin)}")
        if match["port"] is not None and _DEFAULT_PORTS.get(match["scheme"]) == match["port"]:
            raise SettingsError(
                f"{setting} has {origin!r}; a browser leaves the scheme's own port out: write"
                f" `{match['scheme']}://{match['host']}`"
            )
        if match["host"].startswith("*"):
            scheme, _, rest = origin.encode().partition(b"*")
            suffixes.append((scheme, rest))
        else:
            exact.add(origin.encode())
    return Origins(exact=frozenset(exact), suffixes=tuple(suffixes))


def _origin_fault(origin: str) -> str:
    if origin == "*":
        return "which is every page there is; name the origins, or see guard.insecure_cors_any_origin"
    if origin == "null":
        return "which any page can be, from a sandboxed frame or a file; name the origins"
    return (
        "which is not an origin; write scheme, host and port as the browser does, such as `https://app.example.com`,"
        " `http://localhost:5173` or `https://*.example.com`, in lower case and without a path"
    )


def is_listed(origins: Origins, origin: bytes) -> bool:
    """Whether `origin` is on the list."""
    if origin in origins.exact:
        return True
    for scheme, suffix in origins.suffixes:
        if (
            origin.startswith(scheme)
            and origin.endswith(suffix)
            and _SUBDOMAIN.fullmatch(origin, len(scheme), len(origin) - len(suffix)) is not None
        ):
            return True
    return False


def compile_cors(
    *,
    origins: Iterable[str] = (),
    insecure_any_origin: bool = False,
    credentials: bool = False,
    methods: Iterable[str] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
    headers: Iterable[str] = (),
    expose: Iterable[str] = (),
    max_age_seconds: int = 600,
) -> CorsRules:
    """Compile what other origins' pages may do.

    Args:
        origins: the origins whose pages may read replies.
        insecure_any_origin: let every page read replies, without credentials. For public data only: it also opens a
            service that is known by its place in the network to every page that somebody in there looks at.
        credentials: let the pages send cookies and client certificates.
        methods: methods beyond GET, HEAD and POST.
        headers: request headers beyond the safelisted ones and Content-Type.
        expose: reply headers that a page may read beyond the safelisted ones.
        max_age_seconds: how long a browser may remember the answer to a preflight.

    Raises:
        SettingsError: an origin, method or header is malformed, or two of these must not come together.
    """
    listed = compile_origins("guard.cors_origins", origins)
    if insecure_any_origin and (credentials or listed.exact or listed.suffixes):
        raise SettingsError(
            "guard.insecure_cors_any_origin lets every page read replies, so neither credentials nor a list of origins"
            " goes with it; take guard.cors_credentials and guard.cors_origins out, or the switch"
        )
    if credentials:
        _refuse_plain(listed)
    if not 0 <= max_age_seconds <= MAX_AGE_SECONDS:
        raise SettingsError(
            f"guard.cors_max_age_seconds is {max_age_seconds}; it is 0 to {MAX_AGE_SECONDS}, as browsers take it"
        )
    names = sorted(name.lower() for name in _tokens("guard.cors_headers", headers))
    verbs = sorted(_tokens("guard.cors_methods", methods))
    exposed = sorted(name.lower() for name in _tokens("guard.cors_expose_headers", expose))
    tail: Fields = (
        *(((b"access-control-allow-credentials", b"true"),) if credentials else ()),
        *(((b"access-control-expose-headers", ", ".join(exposed).encode()),) if exposed else ()),
        *(VARY if not insecure_any_origin else ()),
    )
    preflight: Fields = (
        (b"access-control-allow-methods", ", ".join(verbs).encode()),
        (b"access-control-allow-headers", ", ".join(sorted({*names, "content-type"})).encode()),
        (b"access-control-max-age", b"%d" % max_age_seconds),
        (b"vary", b"Access-Control-Request-Method, Access-Control-Request-Headers"),
    )
    return CorsRules(
        enabled=bool(listed.exact or listed.suffixes or insecure_any_origin),
        any_origin=insecure_any_origin,
        origins=listed,
        replies={origin: ((b"access-control-allow-origin", origin), *tail) for origin in listed.exact},
        tail=tail,
        # A cache must not keep for a listed origin what it got for another one, or for none.
        others=((b"access-control-allow-origin", b"*"), *tail) if insecure_any_origin else VARY,
        preflight=preflight,
        methods=SAFE_METHODS | frozenset(verb.encode() for verb in verbs),
        headers=SAFE_HEADERS | frozenset(name.encode() for name in names),
    )


def cors_headers(rules: CorsRules, facts: Facts) -> Fields:
    """The headers that the reply to this request gets; none where no origin is configured.

    Threat: another site's page that reads what the user's browser is sent (CWE-942, CWE-346).
    Method: the origin, byte for byte, must be on the list; it is then named itself, never `*` with credentials.
        Every reply varies by origin, also one to a request without any.
    Assumes: the app sets none of these headers itself.
    Standard: Fetch, section 3.3 (CORS protocol); RFC 9110, section 12.5.5; OWASP ASVS 5.0.0 V3.4.2.
    """
    if not rules.enabled:
        return ()
    origin = facts.headers.get(b"origin")
    fields = _fields(rules, origin) if origin is not None else None
    return fields if fields is not None else rules.others


def check_preflight(rules: CorsRules, facts: Facts) -> Reply | Refusal | None:
    """Answer a preflight; None for any other request, and where no origin is configured.

    Threat: as of `cors_headers`; and pages that reach into a private network through a browser inside of it.
    Method: origin, method and each header must be on their lists. What is not gets a refusal without any of CORS's
        headers, which the browser takes as a no. An answer names the lists, never what was asked for.
    Assumes: the browser follows the protocol; nothing else is bound by it.
    Standard: Fetch, section 4.8 (CORS-preflight fetch); Private Network Access (draft); OWASP ASVS 5.0.0 V3.4.2 and
        V3.5.2.
    """
    if not rules.enabled or facts.method != "OPTIONS":
        return None
    method = facts.headers.get(b"access-control-request-method")
    origin = facts.headers.get(b"origin")
    if method is None or origin is None:
        return None
    fields = rules.others if rules.any_origin else _fields(rules, origin)
    if fields is None:
        control = "cors.origin"
    elif method not in rules.methods:
        control = "cors.method"
    elif not _headers_allowed(rules, facts):
        control = "cors.headers"
    elif b"access-control-request-private-network" in facts.headers:
        control = "cors.private_network"
    else:
        return Reply(status=204, headers=(*fields, *rules.preflight), body=b"")
    return Refusal(control, CrossOriginRefused())


def _fields(rules: CorsRules, origin: bytes) -> Fields | None:
    """What the reply to a listed origin gets; None if it is not listed."""
    fields = rules.replies.get(origin)
    if fields is None and rules.origins.suffixes and is_listed(rules.origins, origin):
        return ((b"access-control-allow-origin", origin), *rules.tail)
    return fields


def _headers_allowed(rules: CorsRules, facts: Facts) -> bool:
    asked = b",".join([value for name, value in facts.raw if name == b"access-control-request-headers"])
    names = asked.split(b",", MAX_HEADERS_ASKED)
    return len(names) <= MAX_HEADERS_ASKED and all(
        # An empty element is none (RFC 9110, section 5.6.1).
        not name or name in rules.headers
        for name in [name.strip(b" \t").lower() for name in names]
    )


def _refuse_plain(origins: Origins) -> None:
    plain = [origin.decode() for origin in origins.exact if origin.startswith(b"http://")]
    plain += [f"http://*{suffix.decode()}" for scheme, suffix in origins.suffixes if scheme == b"http://"]
    for origin in plain:
        match = _ORIGIN.fullmatch(origin)
        if match is not None and match["host"] not in _LOCAL:
            raise SettingsError(
                f"guard.cors_origins has {origin!r} and guard.cors_credentials is on: whoever can change the plain"
                " text of that page acts with the user's cookies; serve the page over https, or take credentials out"
            )


def _tokens(setting: str, values: Iterable[str]) -> list[str]:
    found = list(values)
    for value in found:
        if not _TOKEN.fullmatch(value) or value == "*":
            raise SettingsError(
                f"{setting} has {value!r}; name each one, such as `content-type` or `PATCH`; `*` is none"
            )
    return found
