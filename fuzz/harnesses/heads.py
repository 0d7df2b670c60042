"""Heads of requests: host, path, proxies, origins, and the whole way in."""

import posixpath
import re
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from fuzz.harness import Harness, Splitter, require
from workhorse.analytics.exports.ranges import choose_part
from workhorse.asgi import Reply
from workhorse.guard.admission import admit, admit_socket
from workhorse.guard.checks.cors import check_preflight, compile_cors, cors_headers
from workhorse.guard.checks.csrf import check_csrf, check_handshake, compile_csrf
from workhorse.guard.checks.csrf_token import (
    compile_csrf_token,
    csrf_cookie,
    mask_token,
    new_token,
    verify_token,
)
from workhorse.guard.checks.host import check_host, compile_host, host_name
from workhorse.guard.checks.https import check_https, compile_https
from workhorse.guard.checks.path import check_path, compile_path
from workhorse.guard.checks.proxies import Malformed, Said, compile_proxies, read_forwarded, read_list
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.plan import compile_plan
from workhorse.guard.verdict import Refusal
from workhorse.policy import Policy
from workhorse.settings import GuardSettings

__all__ = ["HARNESSES", "facts_of"]

Raw = list[tuple[bytes, bytes]]

UNSAFE: Final = re.compile(rb"[\r\n\0]")
# What a log line, a database and a header must not get by way of a client's address.
NODE: Final = re.compile(r"[0-9a-fA-F.:]{2,45}|unknown|_[A-Za-z0-9._-]{1,64}")

HOSTS: Final = compile_host(allowed=("api.example.com", "*.shop.example", "[::1]", "127.0.0.1"))
SERVED: Final = re.compile(r"api\.example\.com|.+\.shop\.example|::1|127\.0\.0\.1")
PATHS: Final = compile_path()
PROXIES: Final = compile_proxies(networks=("10.0.0.0/8", "fd00::/8", "unix"))
TLS: Final = compile_https(mode="redirect", port=8443)
CORS: Final = compile_cors(
    origins=("https://app.example.com", "https://*.shop.example", "http://localhost:5173"), headers=("x-request-id",)
)
CSRF: Final = compile_csrf(trusted=("https://login.example.com", "https://*.shop.example"))
TOKENS: Final = compile_csrf_token(keys=[bytes(range(32))])
TAG: Final = '"a"'
NOW: Final = 1_800_000_000.0
COOKIE: Final = new_token(TOKENS, binding=b"session 7", now=NOW)
PLAN: Final = compile_plan(
    GuardSettings(
        allowed_hosts=("api.example.com", "*.shop.example"),
        trusted_proxies=("10.0.0.0/8",),
        cors_origins=("https://app.example.com",),
        https="redirect",
    ),
    [
        Policy("GET /accounts/{id}"),
        Policy("POST /transfers", content_types=["application/json"]),
        Policy("GET /files/{name:path}", encoded_slashes=True),
    ],
)


def facts_of(
    raw: Raw, *, method: str = "GET", path: bytes = b"/", query: bytes = b"", peer: str = "10.0.0.1", tls: bool = False
) -> Facts:
    """What the guard knows of a request with these header fields, as a server would hand them over."""
    return Facts(_scope(raw, method=method, path=path, query=query, peer=peer, tls=tls))


def _scope(raw: Raw, *, method: str, path: bytes, query: bytes, peer: str, tls: bool) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "https" if tls else "http",
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": raw,
        "client": (peer, 40_000),
        "server": ("127.0.0.1", 8000),
    }


def fuzz_host(data: bytes) -> None:
    """A host that is admitted is the one that a URL parser finds in a link made of it."""
    name = host_name(data)
    require(len(name) <= len(data), "the name is longer than the header", data, name)
    if check_host(HOSTS, facts_of([(b"host", data)])) is not None:
        return
    require(not UNSAFE.search(data), "a host with a line end is admitted", data)
    found = _link(f"https://{data.decode('latin-1')}/reset?token=1")
    require(
        found is not None
        and SERVED.fullmatch((found.hostname or "").removesuffix("."))
        and found.path == "/reset"
        and found.username is None,
        "an admitted host leads elsewhere",
        data,
        found,
    )


def fuzz_path(data: bytes) -> None:
    """A path that is admitted means one thing to whoever decodes, normalises or splits it, once or twice."""
    if check_path(PATHS, facts_of([], path=data)) is not None or data == b"*":
        return
    text = data.decode("ascii")
    decoded = unquote(text, errors="strict")
    require(not re.search(r"[\x00-\x1f\x7f-\x9f\\]", decoded), "a control character or backslash", data)
    require(unquote(decoded) == decoded, "decoding twice gives another path", data)
    parts = urlsplit(text)
    require(not parts.netloc and not parts.query and not parts.fragment, "a URL parser finds more than a path", data)
    require(parts.path == text, "a URL parser finds another path", data, parts.path)
    # Empty segments in the middle are nobody's other path (see `checks.path`).
    single = re.sub(r"/+", "/", decoded)
    require(posixpath.normpath(single) == (single.rstrip("/") or "/"), "normalising gives another path", data)
    cut = re.sub(r";[^/]*", "", single)
    require(
        posixpath.normpath(cut) == (re.sub(r"/+", "/", cut).rstrip("/") or "/"),
        "normalising without parameters gives another path",
        data,
    )


def fuzz_path_of_text(data: bytes) -> None:
    """A segment of ordinary text, escaped as clients do, is admitted."""
    text = data.decode("utf-8", "ignore")
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f/\\%]", "", text).lstrip(".;")
    if plain:
        path = f"/{quote(plain, safe='')}".encode()
        refusal = check_path(PATHS, facts_of([], path=path))
        require(refusal is None, "an ordinary path is refused", path, refusal)


def fuzz_forwarded_list(data: bytes) -> None:
    """X-Forwarded-For: a naive reader agrees, and nothing that the client puts in front changes what is found."""
    said = _said(read_list, data)
    if said is None:
        return
    _check_said(said, data)
    addresses = [part.strip(b" \t").decode("latin-1") for part in data.split(b",")]
    plain = [_plain_address(address) for address in addresses]
    if None not in plain:
        known = [address for address in plain if address is not None]
        others = [address for address in known if not _trusted(address)]
        require(said.client == (others[-1] if others else known[0]), "a naive reader finds another client", data, said)
    if not _trusted(said.client):
        for front in (b"6.6.6.6, ", b'"', b"for=6.6.6.6,", b"\\", b"6.6.6.6,10.0.0.7,"):
            require(front[-1:] != b"," or _said(read_list, front + data) == said, "the client's own word counts", data)


def fuzz_forwarded(data: bytes) -> None:
    """Forwarded (RFC 7239): nothing that the client puts in front changes what is found."""
    said = _said(read_forwarded, data)
    if said is None:
        return
    _check_said(said, data)
    if said.host is not None:
        require(re.fullmatch(rb"[A-Za-z0-9._~:\[\]-]+", said.host), "the host holds more than a host", data, said.host)
    if not _trusted(said.client):
        for front in (b"for=6.6.6.6,", b'for="6.6.6.6,', b'for="\\,', b'",for="[::6]";proto=https,'):
            require(_said(read_forwarded, front + data) == said, "the client's own word counts", front, data)


def fuzz_redirect(data: bytes) -> None:
    """A redirect to TLS leads to the host that was asked for, with the same path, and breaks no header."""
    split = Splitter(data)
    host, path, query = split.piece(), split.piece(), split.rest()
    verdict = check_https(TLS, facts_of([(b"host", host)], path=path), query)
    if isinstance(verdict, Reply):
        location = dict(verdict.headers)[b"location"]
        require(re.fullmatch(rb"[!-~]+", location), "the location breaks its header", location)
        found = _link(location.decode())
        if found is None:  # an address in brackets that is none: it leads nowhere
            return
        require((found.scheme, found.port) == ("https", 8443), "the redirect leads to another port", location)
        require(found.username is None, "the redirect has a user", location)
        require((found.hostname or "").encode() == host_name(host).strip(b"[]"), "another host", location, host)
        require(location.partition(b":8443")[2].startswith(path), "another path", location, path)


def fuzz_origins(data: bytes) -> None:
    """An origin that is admitted, by CORS or against CSRF, is one of the list to a URL parser as well."""
    listed = re.compile(r"https://app\.example\.com|https://[^/@]+\.shop\.example|http://localhost:5173")
    facts = facts_of([(b"host", b"api.example.com"), (b"origin", data)], method="POST", tls=True)
    fields = dict(cors_headers(CORS, facts))
    allowed = fields.get(b"access-control-allow-origin")
    if allowed is not None:
        _check_origin(allowed, listed)
        require(allowed == data, "another origin is allowed than the one that asked", data, allowed)
    own = re.compile(r"https://(?:login\.example\.com|[^/@]+\.shop\.example|api\.example\.com(?::443)?)")
    for check in (check_csrf, check_handshake):
        if data and check(CSRF, facts) is None:
            _check_origin(data, own)


def fuzz_preflight(data: bytes) -> None:
    """The answer to a preflight echoes nothing but a listed origin."""
    split = Splitter(data)
    origin = (b"https://app.example.com", b"https://a.shop.example", split.piece())[split.number(3)]
    raw = [
        (b"origin", origin),
        (b"access-control-request-method", split.piece()),
        (b"access-control-request-headers", split.rest()),
    ]
    verdict = check_preflight(CORS, facts_of(raw, method="OPTIONS"))
    require(verdict is not None, "a preflight reaches the app", data)
    if isinstance(verdict, Reply):
        fields = dict(verdict.headers)
        require(verdict.status == 204 and not verdict.body, "a preflight's answer has a body", verdict)
        asked = set(raw[2][1].lower().replace(b"\t", b" ").replace(b" ", b"").split(b",")) - {b""}
        require(asked <= CORS.headers, "headers that are not listed are allowed", asked)
        safe = {name: value for name, value in fields.items() if name != b"access-control-allow-origin"}
        require(safe == dict((*CORS.tail, *CORS.preflight)), "a preflight's answer echoes what was asked", fields)


def fuzz_csrf_token(data: bytes) -> None:
    """No token and no cookie but what this service made are good, and only for their session."""
    split = Splitter(data)
    forged = split.number(2)
    piece = split.rest()
    cookie, token = (piece, COOKIE) if forged else (COOKIE, piece)
    if verify_token(TOKENS, token=token, cookie=cookie, binding=b"session 7", now=NOW):
        require(not forged or piece == COOKIE, "a cookie is forged", piece)
    require(not verify_token(TOKENS, token=piece, cookie=piece, binding=b"session 8", now=NOW), "another session's")
    bound = new_token(TOKENS, binding=piece, now=NOW)
    masked = mask_token(bound)
    require(verify_token(TOKENS, token=masked, cookie=bound, binding=piece, now=NOW), "its own token is refused", piece)
    found = csrf_cookie(facts_of([(b"cookie", piece)]))
    require(not found or b"__Host-csrf=" + found in piece, "a cookie that is not there", piece, found)


def fuzz_ranges(data: bytes) -> None:
    """Whatever range is asked for, the part that is sent is within the file, and only of the file that is meant."""
    cut = Splitter(data)
    size, condition = cut.number(65_536), cut.piece()
    raw = [(b"range", cut.rest())]
    part = choose_part([*raw, (b"if-range", condition)] if condition else raw, size, TAG)
    require(0 <= part.start <= part.end <= size, "a part is within the file", (data, part))
    require(part.status in {200, 206, 416}, "a range is answered with 200, 206 or 416", (data, part))
    whole = (part.start, part.end) == (0, size)
    require(part.status != 200 or whole, "200 is all of it", (data, part))
    require(part.status != 206 or part.start < part.end, "a part has bytes", (data, part))
    other = condition and condition.strip().decode("latin-1") != TAG
    require(not other or part.status == 200, "of another file nothing is continued", (data, part))


def fuzz_admit(data: bytes) -> None:
    """The whole way in, on any head: it is admitted or refused, and no reply header is broken by it."""
    lines = data.split(b"\n")
    method, _, target = lines[0].partition(b" ")
    path, _, query = target.partition(b"?")
    raw: Raw = []
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        raw.append((name.strip().lower(), value.strip()))
    peer = "10.0.0.1" if len(data) % 2 else "203.0.113.9"
    facts = facts_of(raw, method=method.decode("latin-1"), path=path or b"/", query=query, peer=peer)
    exchange = Exchange(PLAN, facts, _never, 0.0)
    verdict = admit(PLAN, facts, exchange)
    for name, value in (*exchange.extra, *_headers_of(verdict)):
        require(not UNSAFE.search(name + value), "a reply header is broken", name, value)
    require(NODE.fullmatch(facts.client), "the client is no address", facts.client)
    if peer != "10.0.0.1":
        require(facts.client == peer and not facts.tls, "a stranger names its own address or scheme", facts.client)
    if verdict is None:
        require(facts.headers.get(b"host") is not None, "admitted without a host")
        require(facts.tls, "admitted in plain text")
    socket = facts_of(raw, path=path or b"/", query=query, peer=peer)
    refused = admit_socket(PLAN, socket, Exchange(PLAN, socket, _never, 0.0))
    require(refused is None or refused.control, "a refusal without a control", refused)


async def _never(message: Any) -> None:
    raise AssertionError(f"nothing is sent before the verdict, and here is {message!r}")


def _headers_of(verdict: Refusal | Reply | None) -> tuple[tuple[bytes, bytes], ...]:
    if verdict is None:
        return ()
    return verdict.headers if isinstance(verdict, Reply) else tuple(verdict.problem.headers)


def _said(read: Any, value: bytes) -> Said | None:
    try:
        said: Said = read(PROXIES, value)
    except Malformed as error:
        require(len(str(error)) < 200, "the refusal is long", str(error))
        return None
    return said


def _check_said(said: Said, data: bytes) -> None:
    require(NODE.fullmatch(said.client), "the client is no address", data, said.client)


def _link(text: str) -> SplitResult | None:
    """What a URL parser makes of a link; None where it takes it for none."""
    try:
        return urlsplit(text)
    except ValueError:
        return None


def _trusted(address: str) -> bool:
    return address.startswith(("10.", "fd"))


def _plain_address(address: str) -> str | None:
    """An address in its shortest form; None for all that a naive reader does not know."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if "%" in address or getattr(parsed, "ipv4_mapped", None) is not None:
        return None
    return str(parsed)


def _check_origin(origin: bytes, listed: re.Pattern[str]) -> None:
    text = origin.decode("latin-1")
    require(listed.fullmatch(text.lower()), "an origin that is not listed is allowed", origin)
    found = urlsplit(text)
    require(not found.path and not found.query and not found.username, "an origin is more than an origin", origin)


ADMITTED: Final = (
    b"""GET /accounts/7?a=b
host: api.example.com
x-forwarded-for: 203.0.113.7
x-forwarded-proto: https""",
    b"""POST /transfers
host: a.shop.example
x-forwarded-proto: https
content-type: application/json
content-length: 12
origin: https://app.example.com""",
    b"""OPTIONS /files/a%2Fb
host: api.example.com
origin: https://app.example.com
x-forwarded-proto: https
access-control-request-method: PUT
access-control-request-headers: x-a""",
    b"""POST /transfers
host: api.example.com
x-forwarded-proto: https
transfer-encoding: chunked
content-encoding: gzip
content-type: multipart/form-data; boundary="a b"
sec-fetch-site: none""",
)

HARNESSES: Final = (
    Harness(
        name="heads.host",
        run=fuzz_host,
        seeds=(
            b"evil.example/.shop.example",
            b"api.example.com",
            b"a.shop.example:8443",
            b"[::1]:80",
            b"API.example.com.",
            b"x@api.example.com:1",
        ),
        max_bytes=512,
    ),
    Harness(
        name="heads.path",
        run=fuzz_path,
        seeds=(b"/accounts/7", b"/a%20b/%C3%A9;v=1", b"/..;a/b", b"/%2e%2e/", b"/a//b/", b"*", b"/%25%32%65"),
    ),
    Harness(name="heads.path_of_text", run=fuzz_path_of_text, seeds=(b"caf\xc3\xa9 ~a:b", b"100%", b"a;b=c")),
    Harness(
        name="heads.forwarded_list",
        run=fuzz_forwarded_list,
        seeds=(b"203.0.113.7, 10.0.0.2", b"[2001:db8::1]:4711", b"::ffff:10.0.0.1,10.1.1.1", b"unknown, _hidden:1"),
    ),
    Harness(
        name="heads.forwarded",
        run=fuzz_forwarded,
        seeds=(
            b"for=203.0.113.7;proto=https;host=api.example.com, for=10.0.0.2",
            b'for="[2001:db8::1]:47", for="10.0.0.1:80";by=_x',
            b'for=unknown;ext="a,b", for=_h',
        ),
    ),
    Harness(
        name="heads.redirect",
        run=fuzz_redirect,
        seeds=(b"\x0fapi.example.com\x05/a%20ba=1", b"\x06[::1]:\x02/xq", b"\x03a:1\x01/"),
    ),
    Harness(
        name="heads.origins",
        run=fuzz_origins,
        seeds=(
            b"https://app.example.com",
            b"https://a.b.shop.example",
            b"http://localhost:5173",
            b"null",
            b"https://api.example.com:443",
        ),
        max_bytes=512,
    ),
    Harness(
        name="heads.preflight",
        run=fuzz_preflight,
        seeds=(b"\x00\x00\x03PUTx-request-id, content-type", b"\x04abcd\x02\x04POSTauthorization"),
    ),
    Harness(
        name="heads.csrf_token",
        run=fuzz_csrf_token,
        seeds=(b"\x00" + COOKIE, b"\x01" + COOKIE, b"\x00" + mask_token(COOKIE).encode(), b"\x00a=b; __Host-csrf=x"),
        max_bytes=512,
    ),
    Harness(
        name="heads.ranges",
        run=fuzz_ranges,
        seeds=(
            b"\x01\x00\x00bytes=0-9",
            b'\x01\x00\x03"a"bytes=-5',
            b"\x00\x05\x00bytes=9-",
            b'\x01\x00\x03"b"bytes=0-',
        ),
        max_bytes=512,
    ),
    Harness(
        name="heads.admit",
        run=fuzz_admit,
        seeds=ADMITTED,
    ),
)
