"""Where the pages of the login are, and which addresses a browser may be sent to afterwards. Pure.

An open redirect turns the bank's own address into a link to anywhere (CWE-601). The address to return to is therefore
one that this service writes itself: an absolute path, spelt so plainly that no browser, proxy or framework can read a
host or another path in it. What is not so spelt is refused and never repaired, because repairs are where readers part.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from workhorse.asgi import Scope
from workhorse.errors import SettingsError

__all__ = ["MAX_NEXT", "LoginPaths", "is_local_path", "is_navigation", "page_of"]

MAX_NEXT: Final = 512
"""The longest address to return to. It goes into a cookie, and several of these into one header."""
MAX_LAYERS: Final = 4
"""How often an address is decoded to see what hides in it. One that still changes then is refused."""

# RFC 3986, sections 3.3 and 3.4, without the fragment: it never reaches a server, so a server has none to give back.
_LOCAL: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Backslashes are slashes to browsers; control characters are dropped by them.
_HIDDEN: Final = re.compile(rb"[\x00-\x1f\x7f\\]")
_SEGMENTS: Final = re.compile(r"/[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPaths:
    """Where the pages are, below the place that the app is mounted at.

    Raises:
        SettingsError: one is no plain path, or two are the same.
    """

    login: str = "/login"
    callback: str = "/login/callback"
    logout: str = "/logout"
    backchannel: str = "/login/backchannel-logout"

    @property
    def development(self) -> str:
        """Where the page is that stands for an issuer's; in development only."""
        return f"{self.login}/development"

    def __post_init__(self) -> None:
        paths = (self.login, self.callback, self.logout, self.backchannel, self.development)
        for path in paths:
            if _SEGMENTS.fullmatch(path) is None:
                raise SettingsError(f"a page of the login is at {path!r}; write a plain path such as '/login'")
        if len(set(paths)) != len(paths):
            raise SettingsError(f"the pages of the login are at {', '.join(paths)}; give each a path of its own")


def is_local_path(address: str) -> bool:
    r"""Whether a browser that is sent to `address` stays on this very origin, whoever reads it.

    Threat: an address such as `//evil.example`, `/\evil.example`, `/%2f%2fevil.example` or one with a line end, which
        some reader takes for another host or for a header (CWE-601, CWE-113).
    Method: an absolute path of the characters that RFC 3986 has for it, with no empty segment and no dot segment, nor
        any backslash or control character, however often it is decoded. The query may hold anything that is encoded.
    Assumes: it is sent as it is, in a Location header of this origin.
    Standard: OWASP ASVS 5.0.0 V3.7.2; RFC 9700, section 4.11.
    """
    if len(address) > MAX_NEXT or _LOCAL.fullmatch(address) is None or _BAD_PERCENT.search(address):
        return False
    return _is_plain_path(address.partition("?")[0].encode("ascii"))


def is_navigation(scope: Scope) -> bool | None:
    """Whether a browser asks for a page to show in a window of its own; None where it does not tell.

    Standard: Fetch Metadata Request Headers, sections 2.1 and 2.2; in all browsers since 2023.
    """
    headers = dict(scope["headers"])
    mode, destination = headers.get(b"sec-fetch-mode"), headers.get(b"sec-fetch-dest")
    if mode is None:
        return None
    return mode == b"navigate" and destination in {None, b"document"}


def page_of(scope: Scope) -> str:
    """The address of the page that is asked for, as a path to return to; empty if it is none to return to."""
    raw: bytes = scope.get("raw_path") or b""
    query: bytes = scope.get("query_string") or b""
    try:
        address = (raw.partition(b"?")[0] + (b"?" + query if query else b"")).decode("ascii")
    except UnicodeDecodeError:
        return ""
    return address if is_local_path(address) else ""


def _is_plain_path(path: bytes) -> bool:
    for _ in range(MAX_LAYERS):
        segments = path.split(b"/")[1:]
        if _HIDDEN.search(path) or b"" in segments[:-1] or not {b".", b".."}.isdisjoint(segments):
            return False
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return True
        path = decoded
    return False
