"""The headers that tell a browser what a reply may do, by what kind of reply it is.

Data gets a Content-Security-Policy that allows nothing at all, for it is never meant to be a page, whatever a browser
takes it for. A page gets one that runs the scripts of its own origin, or those that carry the reply's nonce. A script
gets one for when it runs as a worker, which has no other; media get one that keeps it out of frames and no more,
because viewers are built into browsers that a stricter one stops. Each list is made once; a reply costs one pass over
the app's own headers, one look-up each.

An app's own header always wins. Where it is weaker than ours, `workhorse.guard.weakened` says in what.

A 304 stands for the reply that the browser has kept, and its headers replace that one's. So it gets no policy: it says
not of what kind the kept page is, and any nonce in that page is another one.

What is not sent, and why: Cross-Origin-Embedder-Policy, unless asked for, since it stops each image, font and payment
frame of another site that does not itself opt in, for a feature (shared memory) that few pages use. X-XSS-Protection,
which made holes of its own. Expect-CT, Public-Key-Pins and Feature-Policy, which no browser heeds any more.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from workhorse.asgi import Headers
from workhorse.errors import SettingsError

__all__ = ["DENIED_FEATURES", "PAGE_POLICY", "HeaderRules", "Kind", "compile_headers", "kind_of", "reply_headers"]

Fields = tuple[tuple[bytes, bytes], ...]

CSP: Final = b"content-security-policy"

DATA_POLICY: Final = b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
PAGE_POLICY: Final = (
    b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SCRIPT_POLICY: Final = b"default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
DRAWING_POLICY: Final = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none';"
    b" frame-ancestors 'none'; sandbox"
)
MEDIA_POLICY: Final = b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

DENIED_FEATURES: Final = (
    "accelerometer",
    "camera",
    "display-capture",
    "geolocation",
    "gyroscope",
    "hid",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "serial",
    "usb",
)
"""What a page asks its user for, and may not; `guard.allowed_features` takes one out, and a page's own header may."""

# Of every reply.
_ALWAYS: Final[Fields] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_REFERRER: Final = b"referrer-policy"


class Kind(IntEnum):
    """What a reply is to a browser."""

    DATA = 0
    """JSON, text, whatever nobody listed, and what says nothing."""
    PAGE = 1
    SCRIPT = 2
    """Scripts and style sheets."""
    DRAWING = 3
    """SVG: an image that may hold scripts, and is a page once it is opened by itself."""
    MEDIA = 4
    """Images, sound, video and fonts."""
    DOCUMENT = 5
    """PDF."""
    KEPT = 6
    """304: what the browser has already."""


_NO_STORE: Final[Fields] = ((b"cache-control", b"no-store"),)
_REVALIDATED: Final[Fields] = ((b"cache-control", b"private, no-cache"),)
# Of a private reply that says nothing of caches itself. What a page is made of is the same for all its readers as a
# rule, and asked for again with each page: the browser may keep it, and asks whether it is still good.
_UNSHARED: Final[Mapping[Kind, Fields]] = {
    Kind.DATA: _NO_STORE,
    Kind.PAGE: _NO_STORE,
    Kind.SCRIPT: _REVALIDATED,
    Kind.DRAWING: _REVALIDATED,
    Kind.MEDIA: _REVALIDATED,
    Kind.DOCUMENT: _NO_STORE,
    Kind.KEPT: (),
}

_KINDS: Final[Mapping[bytes, Kind]] = {
    b"application/json": Kind.DATA,
    b"application/problem+json": Kind.DATA,
    b"text/plain": Kind.DATA,
    b"text/plain; charset=utf-8": Kind.DATA,
    b"text/event-stream": Kind.DATA,
    b"text/event-stream; charset=utf-8": Kind.DATA,
    b"text/html": Kind.PAGE,
    b"text/html; charset=utf-8": Kind.PAGE,
    b"application/xhtml+xml": Kind.PAGE,
    b"text/javascript": Kind.SCRIPT,
    b"text/javascript; charset=utf-8": Kind.SCRIPT,
    b"application/javascript": Kind.SCRIPT,
    b"text/css": Kind.SCRIPT,
    b"text/css; charset=utf-8": Kind.SCRIPT,
    b"application/wasm": Kind.SCRIPT,
    b"image/svg+xml": Kind.DRAWING,
    b"application/pdf": Kind.DOCUMENT,
}
_MEDIA: Final = (b"image/", b"audio/", b"video/", b"font/")

# What a header of the app's own is to us. Names that are not here are looked at again in lower case.
_PLAIN: Final = 0
_CONTENT_TYPE: Final = 1
_OURS: Final = 2
_BANNER: Final = 3
_COOKIE: Final = 4

_COMMON: Final = (
    b"accept-ranges",
    b"access-control-allow-credentials",
    b"access-control-allow-origin",
    b"access-control-expose-headers",
    b"allow",
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-length",
    b"content-range",
    b"date",
    b"deprecation",
    b"etag",
    b"expires",
    b"idempotent-replayed",
    b"last-modified",
    b"link",
    b"location",
    b"ratelimit",
    b"ratelimit-policy",
    b"retry-after",
    b"server-timing",
    b"sunset",
    b"traceparent",
    b"transfer-encoding",
    b"vary",
    b"www-authenticate",
)
_BANNERS: Final = (b"server", b"x-powered-by", b"x-aspnet-version", b"x-generator", b"x-request-id")
"""Left out. The last one is the guard's own, and a reply has one name."""
_CORS: Final = (
    b"access-control-allow-credentials",
    b"access-control-allow-headers",
    b"access-control-allow-methods",
    b"access-control-allow-origin",
    b"access-control-allow-private-network",
    b"access-control-expose-headers",
    b"access-control-max-age",
)
"""Left out where the guard says which origins may read replies: of two answers the looser would win, or neither."""

_NONCE: Final = re.compile(r"[A-Za-z0-9+/_-]{16,128}={0,2}").fullmatch
_REPORT_URL: Final = re.compile(r"(?:https://|/)[A-Za-z0-9._~-][A-Za-z0-9._~:/?@!$&()*+=%-]*").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """What each kind of reply gets."""

    names: Mapping[bytes, int]
    """What a header's name is to us."""
    lists: tuple[Fields, ...]
    """By kind times four, plus two over TLS, plus one for a private reply."""
    page_policy: bytes
    hsts: bytes
    """Empty: none."""
    denied_features: tuple[str, ...]


def compile_headers(
    *,
    hsts: bytes = b"",
    embedder_policy: Literal["", "require-corp", "credentialless"] = "",
    report_to: str = "",
    allowed_features: Iterable[str] = (),
    own_cors: bool = False,
) -> HeaderRules:
    """Compile what each kind of reply gets.

    Args:
        hsts: the value of Strict-Transport-Security for replies over TLS; empty: none.
        embedder_policy: Cross-Origin-Embedder-Policy of pages and scripts; empty: none.
        report_to: path or https address that browsers report violations of a page's policy to; empty: nowhere.
        allowed_features: what of `DENIED_FEATURES` pages may ask the browser for (Permissions-Policy).
        own_cors: whether the guard itself says which origins may read replies.

    Raises:
        SettingsError: an address is malformed, or a feature is none that would be denied.
    """
    if report_to and not _REPORT_URL(report_to):
        raise SettingsError(
            f"reports of violated policies go to {report_to!r}; write a path such as `/reports` or an https address,"
            " without blanks, commas, quotes and semicolons"
        )
    allowed = frozenset(allowed_features)
    for feature in sorted(allowed.difference(DENIED_FEATURES)):
        raise SettingsError(
            f"guard.allowed_features has {feature!r}, which nothing denies; these are: {', '.join(DENIED_FEATURES)}"
        )
    features = [feature for feature in DENIED_FEATURES if feature not in allowed]
    page_policy = PAGE_POLICY
    page: list[tuple[bytes, bytes]] = [
        # Not no-referrer, under which a form's own post says `Origin: null`, and could not be told from another site's.
        (_REFERRER, b"same-origin"),
        (b"permissions-policy", ", ".join(f"{feature}=()" for feature in features).encode()),
        (b"origin-agent-cluster", b"?1"),
        (b"x-permitted-cross-domain-policies", b"none"),
    ]
    if not features:
        del page[1]
    if report_to:
        page_policy += f"; report-uri {report_to}; report-to csp".encode()
        page.append((b"reporting-endpoints", f'csp="{report_to}"'.encode()))
    embedding: Fields = ((b"cross-origin-embedder-policy", embedder_policy.encode()),) if embedder_policy else ()
    by_kind: dict[Kind, Fields] = {
        Kind.DATA: ((CSP, DATA_POLICY),),
        Kind.PAGE: ((CSP, page_policy), *page, *embedding),
        Kind.SCRIPT: ((CSP, SCRIPT_POLICY), *embedding),
        Kind.DRAWING: ((CSP, DRAWING_POLICY),),
        # Readers of PDF are the last that ask for cross-domain policies.
        Kind.MEDIA: ((CSP, MEDIA_POLICY),),
        Kind.DOCUMENT: ((CSP, MEDIA_POLICY), (b"x-permitted-cross-domain-policies", b"none")),
        Kind.KEPT: (),
    }
    over_tls: Fields = ((b"strict-transport-security", hsts),) if hsts else ()
    lists = tuple(
        (
            *_ALWAYS,
            *(() if kind in {Kind.PAGE, Kind.KEPT} else ((_REFERRER, b"no-referrer"),)),
            *by_kind[kind],
            *(over_tls if tls else ()),
            *(_UNSHARED[kind] if private else ()),
        )
        for kind in Kind
        for tls in (False, True)
        for private in (False, True)
    )
    names = dict.fromkeys(_COMMON, _PLAIN) | {name: _OURS for fields in lists for name, _ in fields}
    names |= dict.fromkeys(_BANNERS, _BANNER) | {b"content-type": _CONTENT_TYPE, b"set-cookie": _COOKIE}
    if own_cors:
        names |= dict.fromkeys(_CORS, _BANNER)
    return HeaderRules(names=names, lists=lists, page_policy=page_policy, hsts=hsts, denied_features=tuple(features))


def kind_of(content_type: bytes) -> Kind:
    """What a reply of this Content-Type is to a browser."""
    kind = _KINDS.get(content_type)
    if kind is not None:
        return kind
    essence = content_type.partition(b";")[0].strip().lower()
    kind = _KINDS.get(essence)
    if kind is not None:
        return kind
    return Kind.MEDIA if essence.startswith(_MEDIA) else Kind.DATA


def reply_headers(
    rules: HeaderRules,
    own: Iterable[tuple[bytes, bytes]],
    *,
    tls: bool,
    private: bool,
    nonce: str = "",
    status: int = 200,
    overridden: Headers | None = None,
) -> Headers:
    """The headers of a reply: the app's own, and ours that it does not have itself.

    Threat: pages that run what an attacker slipped in, are framed, or are read by other sites' pages, and replies
        that caches keep for the next user (CWE-79, CWE-1021, CWE-430, CWE-524, CWE-525, CWE-319); and headers that
        name what is installed (CWE-200).
    Method: a list by kind, for plain HTTP or TLS, and for anybody or for one caller. The app's own header wins.
        `Server`, `X-Powered-By` and `X-Request-ID` of the app's are left out. A
        reply with a cookie is for one caller only.
    Assumes: Content-Type tells the truth; nosniff makes browsers believe it.
    Standard: CSP level 3; RFC 6797, section 7.2; RFC 9111, section 5.2.2.5; OWASP ASVS 5.0.0 V3.2.1, V3.4.1 and
        V3.4.3 to V3.4.8, V3.5.8, V13.4.6 and V14.3.2; OWASP Secure Headers Project.

    Args:
        rules: the lists.
        own: the app's headers. Names in lower case, as ASGI demands, cost least.
        tls: whether the client speaks TLS.
        private: whether the reply may be for this caller only.
        nonce: of the page's scripts and styles; empty: it asked for none.
        status: of the reply.
        overridden: gets those of the app's own headers that took the place of one of ours, for `weakened`.
    """
    names = rules.names
    out: Headers = []
    kind = Kind.DATA
    taken: list[bytes] | None = None
    for field in own:
        code = names.get(field[0])
        if code is None:
            code = names.get(field[0].lower(), _PLAIN)
        if code == _CONTENT_TYPE:
            found = _KINDS.get(field[1])
            kind = found if found is not None else kind_of(field[1])
        elif code == _OURS:
            taken = [*(taken or ()), field[0].lower()]
            if overridden is not None:
                overridden.append(field)
        elif code == _BANNER:
            continue
        elif code == _COOKIE:
            private = True  # whoever a cache gave it to would have the cookie
        out.append(field)
    if status == 304:
        kind = Kind.KEPT
    ours = rules.lists[kind * 4 + tls * 2 + private]
    if taken is None and not (nonce and kind == Kind.PAGE):
        out += ours
        return out
    for field in ours:
        if taken is None or field[0] not in taken:
            if nonce and kind == Kind.PAGE and field[0] == CSP:
                field = (CSP, _with_nonce(rules.page_policy, nonce))  # noqa: PLW2901
            out.append(field)
    return out


def _with_nonce(policy: bytes, nonce: str) -> bytes:
    assert _NONCE(nonce), "a nonce is base64, and hard to guess"
    given = nonce.encode()
    return b"%b; script-src 'self' 'nonce-%b'; style-src 'self' 'nonce-%b'" % (policy, given, given)
