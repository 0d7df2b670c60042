"""Requests in plain text where TLS is demanded, and the header that makes browsers stay with it.

A browser that somebody typed `http://` into is led to the same place over TLS. A program is not: it would send its
credentials in plain text again and again, and nobody would see, since the redirect makes it work. So whatever carries
a credential of its own making, and whatever is no plain read, is refused, which is noticed at once.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from workhorse.asgi import Reply
from workhorse.errors import SettingsError
from workhorse.guard.checks.host import host_name
from workhorse.guard.facts import Facts
from workhorse.guard.problems import TlsRequired
from workhorse.guard.verdict import Refusal

__all__ = ["HttpsRules", "check_https", "compile_hsts", "compile_https"]

YEAR_SECONDS: Final = 31_536_000

REDIRECTED: Final = frozenset({"GET", "HEAD"})

# RFC 9110, section 7.2, without what no host that is served can hold.
_HOST: Final = re.compile(rb"[a-z0-9._-]{1,255}|\[[0-9a-f:.]{2,45}\]").fullmatch
# Visible ASCII: nothing that ends a header, or that a browser would drop while it reads a URL.
_VISIBLE: Final = re.compile(rb"[!-~]*").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsRules:
    """What happens to plain HTTP."""

    off: bool
    redirect: bool
    port: bytes
    """What the redirect's authority ends with: empty for 443."""


def compile_https(*, mode: Literal["off", "redirect", "refuse"], port: int = 443) -> HttpsRules:
    """Compile what happens to plain HTTP.

    Args:
        mode: `off` takes it; `redirect` leads browsers to TLS, and refuses the rest; `refuse` refuses it all.
        port: where TLS is spoken, for redirects.

    Raises:
        SettingsError: the port is none.
    """
    if not 1 <= port <= 65_535:
        raise SettingsError(f"guard.https_port is {port}; it is 1 to 65535, as a rule 443")
    return HttpsRules(
        off=mode == "off",
        redirect=mode == "redirect",
        port=b"" if port == 443 else b":%d" % port,
    )


def check_https(rules: HttpsRules, facts: Facts, query: bytes) -> Reply | Refusal | None:
    """Redirect or refuse a request that came in plain text.

    Threat: credentials and data read or changed on their way (CWE-319, CWE-523), and a first request that an
        attacker answers instead (SSL stripping).
    Method: a GET or HEAD without Authorization and X-API-Key is redirected to the same host, path and query with
        308, which no cache keeps. Any other request is refused with 403. A WebSocket's handshake cannot follow a
        redirect: whatever this answers, it is to be refused.
    Assumes: `check_host` has run, so that the host is a name of this service, and `check_path`. A proxy that takes
        TLS off is trusted, and tells of it.
    Standard: RFC 9110, section 15.4.9; RFC 6797, section 7.2; OWASP ASVS 5.0.0 V4.1.2, V4.4.1, V12.2.1 and V3.7.2.

    Args:
        rules: what happens to plain HTTP.
        facts: the request.
        query: the query string as it came.
    """
    if facts.tls or rules.off:
        return None
    target = _target(rules, facts, query) if rules.redirect else b""
    if not target:
        return Refusal("https.required", TlsRequired())
    return Reply(
        status=308,
        headers=((b"location", target), (b"cache-control", b"no-store"), (b"content-length", b"0")),
        body=b"",
    )


def compile_hsts(*, seconds: int, subdomains: bool = True, preload: bool = False) -> bytes:
    """The value of Strict-Transport-Security (RFC 6797, section 6.1); empty for 0 seconds, which sends none.

    It belongs on replies over TLS only (section 7.2). OWASP ASVS 5.0.0 V3.4.1 asks for a year or more.

    Args:
        seconds: how long a browser remembers.
        subdomains: it holds for all names below this one, too.
        preload: it may be built into browsers (hstspreload.org), from where it takes months to get out again.

    Raises:
        SettingsError: the time is negative, or what browsers ask for before they build it in is not there.
    """
    if seconds < 0:
        raise SettingsError(f"guard.hsts_seconds is {seconds}; it is 0 or more, as a rule {2 * YEAR_SECONDS}")
    if preload and (seconds < YEAR_SECONDS or not subdomains):
        raise SettingsError(
            f"guard.hsts_preload goes with guard.hsts_seconds={seconds}"
            f"{'' if subdomains else ' and without guard.hsts_subdomains'}; browsers take it from {YEAR_SECONDS}"
            " seconds on, with subdomains"
        )
    if seconds == 0:
        return b""
    return (
        b"max-age=%d" % seconds + (b"; includeSubDomains" if subdomains else b"") + (b"; preload" if preload else b"")
    )


def _target(rules: HttpsRules, facts: Facts, query: bytes) -> bytes:
    """Where the request should have gone; empty if it is none to be led there."""
    if facts.method not in REDIRECTED or b"authorization" in facts.headers or b"x-api-key" in facts.headers:
        return b""
    host = host_name(facts.host) if facts.host is not None else b""
    path = facts.raw_path
    if not _HOST(host) or not path.startswith(b"/") or not _VISIBLE(path) or not _VISIBLE(query):
        return b""
    return b"https://" + host + rules.port + path + (b"?" + query if query else b"")
