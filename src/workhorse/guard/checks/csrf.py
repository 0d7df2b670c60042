"""Requests that another site's page makes a browser send, with all that the browser adds by itself.

The browser tells where a request comes from: Sec-Fetch-Site in all since 2023, Origin in older ones. So no token is
needed, and nothing has to be written into a form. The rules are those of `CrossOriginProtection` in Go's net/http,
with three differences, all stricter: a page of plain HTTP is another origin once the request is known to come over
TLS; so is one of a scheme that is no web page's; and a WebSocket's handshake counts as unsafe, though it is a GET,
because CORS does not hold for it.

A request that is authenticated by its Authorization header alone is not exempt, as in Go. Browsers add that header by
themselves for the Basic, Digest and Negotiate schemes, and a bearer token may come along with a cookie that the app
looks at first. Programs send neither Sec-Fetch-Site nor Origin, so nothing stands in their way; and the page of
another origin, which has to be listed for CORS anyway, is to be listed here as well.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from workhorse.guard.checks.cors import Origins, compile_origins, is_listed
from workhorse.guard.facts import Facts
from workhorse.guard.problems import CrossOriginRefused
from workhorse.guard.verdict import Refusal

__all__ = ["SAFE_METHODS", "CsrfRules", "check_csrf", "check_handshake", "compile_csrf", "needs_token"]

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110, section 9.2.1. Not TRACE, which nothing needs."""

SAME: Final = frozenset({b"same-origin", b"none"})
"""`none`: the user did it, by an address typed in or a bookmark. `same-site` is another origin like any other."""

_OWN_PORTS: Final[Mapping[bytes, bytes]] = {b"http": b":80", b"https": b":443"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CsrfRules:
    """Whose pages may send unsafe requests."""

    off: bool
    trusted: Origins
    token_for_old_clients: bool


def compile_csrf(
    *, trusted: Iterable[str] = (), token_for_old_clients: bool = False, insecure_cross_site: bool = False
) -> CsrfRules:
    """Compile whose pages may send unsafe requests.

    Args:
        trusted: origins besides the service's own: those of `guard.csrf_origins`, and those of `guard.cors_origins`,
            whose pages could not send anything but simple reads otherwise.
        token_for_old_clients: demand a token (`checks.csrf_token`) of a request that tells nothing of where it comes
            from, but has a cookie: a browser from before 2020, or one behind a proxy that takes these headers out.
        insecure_cross_site: take unsafe requests from everywhere.

    Raises:
        SettingsError: an origin is malformed.
    """
    return CsrfRules(
        off=insecure_cross_site,
        trusted=compile_origins("guard.csrf_origins", trusted),
        token_for_old_clients=token_for_old_clients,
    )


def check_csrf(rules: CsrfRules, facts: Facts, *, cross_site: bool = False) -> Refusal | None:
    """Refuse an unsafe request that another origin's page has sent.

    Threat: cross-site request forgery, that of a login included (CWE-352, CWE-346).
    Method: GET, HEAD and OPTIONS pass. Sec-Fetch-Site must be `same-origin` or `none`; without it, the host of Origin
        must be the request's own, port included. What has neither comes from a program or a very old browser, and
        passes (but see `needs_token`). Trusted origins pass.
    Assumes: handlers of safe methods change nothing. The host has been checked, so that it is not the attacker's.
        Where the guard does not know that a proxy took TLS off, an `http` page of the same host passes as in Go; HSTS
        closes that.
    Standard: Fetch Metadata Request Headers; RFC 6454, section 7; OWASP ASVS 5.0.0 V3.5.1 and V3.5.2; OWASP CSRF
        prevention cheat sheet.

    Args:
        rules: whose pages are trusted.
        facts: the request.
        cross_site: the route takes requests of other sites' pages.
    """
    if facts.method in SAFE_METHODS or rules.off:
        return None
    if facts.headers.get(b"sec-fetch-site") in SAME:
        return None
    return None if cross_site else _check_origin(rules, facts)


def check_handshake(rules: CsrfRules, facts: Facts, *, cross_site: bool = False) -> Refusal | None:
    """Refuse a WebSocket's handshake that another origin's page has sent.

    Threat: cross-site WebSocket hijacking: a page that talks and listens with the user's cookies (CWE-1385).
    Method: as `check_csrf`, whatever the method is. Browsers always send Origin here (RFC 6455, section 4.1).
    Assumes: as `check_csrf`.
    Standard: RFC 6455, section 10.2; OWASP ASVS 5.0.0 V4.4.2.
    """
    if rules.off or cross_site or facts.headers.get(b"sec-fetch-site") in SAME:
        return None
    return _check_origin(rules, facts)


def needs_token(rules: CsrfRules, facts: Facts, *, cross_site: bool = False) -> bool:
    """Whether a request that `check_csrf` let pass still has to show a token, as nothing tells where it comes from.

    Only one with a cookie: what a browser sends without any, a page gains nothing from.
    """
    if not rules.token_for_old_clients or rules.off or cross_site or facts.method in SAFE_METHODS:
        return False
    headers = facts.headers
    return b"cookie" in headers and not headers.get(b"sec-fetch-site") and not headers.get(b"origin")


def _check_origin(rules: CsrfRules, facts: Facts) -> Refusal | None:
    site = facts.headers.get(b"sec-fetch-site")
    origin = facts.headers.get(b"origin")
    if not site and (not origin or _is_own(facts, origin)):
        return None
    if origin and is_listed(rules.trusted, origin):
        return None
    return Refusal("csrf.site" if site else "csrf.origin", CrossOriginRefused())


def _is_own(facts: Facts, origin: bytes) -> bool:
    """Whether `origin` is the one that this request was sent to, as far as that can be known."""
    scheme, _, host = origin.partition(b"://")
    own_port = _OWN_PORTS.get(scheme)
    if own_port is None or not facts.host or (facts.tls and scheme == b"http"):
        return False
    # A browser writes neither upper case nor the scheme's own port, but a proxy in between may.
    return host == facts.host or host == facts.host.lower().removesuffix(own_port)
