"""The cookie that carries a session's secret: how it is named, read and written, decided without touching anything.

The name begins with `__Host-`: a browser then takes it over TLS only, for this very host, for all paths, so that
neither another host of the same domain nor somebody on the wire can plant one (RFC 6265bis, section 4.1.3.2). Over
plain HTTP on a person's own machine some browsers refuse such a cookie; there, and only there, it goes without the
prefix and without `Secure`.

What a client sends is read without ever failing. A cookie is one of three: not there, there and possibly good, or
there and no good, with the reason for the log.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal

from workhorse.errors import SettingsError
from workhorse.identity.reason import Reason, Refused

__all__ = ["SECRET_CHARACTERS", "CookieRules", "cookie_values", "is_loopback"]

SECRET_CHARACTERS: Final = 43
"""256 bits in base64url, without padding."""
PREFIX: Final = "__Host-"
MAX_NAME: Final = 64

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SECRET: Final = re.compile(rb"[A-Za-z0-9_-]{%d}" % SECRET_CHARACTERS)

SameSite = Literal["Lax", "Strict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieRules:
    """How the cookie is named and sent.

    Raises:
        SettingsError: the name cannot be a cookie's, or brings a prefix of its own.
    """

    name: str = "session"
    """Without the prefix. Services on several ports of one host share their cookies, and so need several names."""
    same_site: SameSite = "Lax"
    """Lax: a link from elsewhere finds its user logged in. Strict: it does not."""
    plain_allowed: bool = False
    """Whether a request over plain HTTP from this very machine gets the cookie without prefix and `Secure`."""

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None or len(self.name) > MAX_NAME:
            raise SettingsError(
                f"the cookie's name is {self.name!r}; it begins with a letter or digit, holds letters, digits, '_', '.'"
                f" and '-' only, and has at most {MAX_NAME} of them ('{PREFIX}' is put before it)"
            )
        if self.same_site not in {"Lax", "Strict"}:
            raise SettingsError(f"same_site is {self.same_site!r}; it is Lax or Strict")

    def is_presented(self, header: bytes | None) -> bool:
        """Whether the Cookie header holds the cookie, good or bad."""
        return header is not None and any(cookie_values(header, name) for name in self.names)

    def read(self, header: bytes | None) -> bytes:
        """The secret, as the client sent it.

        Raises:
            Refused: MISSING; MALFORMED; or AMBIGUOUS, where there are several, of which one must be planted.
        """
        for name in self.names:
            values = cookie_values(header or b"", name)
            if len(values) > 1:
                raise Refused(Reason.AMBIGUOUS)
            if values:
                if _SECRET.fullmatch(values[0]) is None:
                    raise Refused(Reason.MALFORMED)
                return values[0]
        raise Refused(Reason.MISSING)

    def given(self, secret: str, *, plain: bool) -> list[bytes]:
        """The values of Set-Cookie that give the client its secret.

        Args:
            secret: new, as `secrets.token_urlsafe(32)` makes it.
            plain: whether the request came over plain HTTP from this very machine.
        """
        if not self.plain_allowed:
            return [self._line(secret, plain=False)]
        # The one with the prefix is read first, so an old one must not stay beside the new one without.
        return [self._line(secret, plain=plain), self._line("", plain=not plain)]

    def taken(self) -> list[bytes]:
        """The values of Set-Cookie that make the client forget its secret."""
        return [self._line("", plain=plain) for plain in ((False, True) if self.plain_allowed else (False,))]

    def is_ours(self, line: bytes) -> bool:
        """Whether a value of Set-Cookie is one of these."""
        return line.partition(b"=")[0] in self.names

    @property
    def names(self) -> tuple[bytes, ...]:
        """What the cookie may be called, the name that is used without TLS last."""
        name = self.name.encode()
        prefixed = PREFIX.encode() + name
        return (prefixed, name) if self.plain_allowed else (prefixed,)

    def _line(self, secret: str, *, plain: bool) -> bytes:
        # No Max-Age: the browser forgets it when it is closed, if the session has not ended before.
        name, secure = (self.name, "") if plain else (PREFIX + self.name, "; Secure")
        end = "" if secret else "; Max-Age=0"
        return f"{name}={secret}{end}; Path=/{secure}; HttpOnly; SameSite={self.same_site}".encode("ascii")


def cookie_values(header: bytes, name: bytes) -> list[bytes]:
    """The values of all cookies of this very name (RFC 6265, section 5.4). Names differ by case. Never raises."""
    if name not in header:
        return []
    found: list[bytes] = []
    for pair in header.split(b";"):
        key, equals, value = pair.partition(b"=")
        if equals and key.strip(b" \t") == name:
            found.append(value.strip(b" \t"))
    return found


def is_loopback(client: str) -> bool:
    """Whether the address is one of this very machine's own. What is no address is not."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
