"""The cookie by which a device shows that its user has logged in from it before.

    base64url(version || key id || expires || nonce || HMAC-SHA-256(key, purpose, account, all before it))

It opens nothing: whoever has it may try the password of that one account, with a budget of the device's own
(OWASP, "Slow down online guessing attacks with device cookies"). Nothing is kept on the server. The account is not in
it, but in what is signed: so a cookie tells nobody whose it is, and is worth nothing for another account.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from secrets import token_bytes
from typing import Final, NamedTuple

from workhorse.errors import SettingsError

__all__ = ["DeviceCookie", "DeviceCookies", "is_device_cookie"]

COOKIE: Final = "__Host-device"
MIN_KEY_BYTES: Final = 32
MAX_KEYS: Final = 8
# The clocks of two machines may differ by so much.
SKEW_SECONDS: Final = 300

VERSION: Final = b"\x01"
KEY_ID: Final = slice(1, 5)
EXPIRES: Final = slice(5, 10)
NONCE: Final = slice(10, 28)
SIGNED: Final = slice(0, 28)
SIGNATURE: Final = slice(28, 60)
COOKIE_BYTES: Final = 60
"""A multiple of three, so that base64 needs no padding."""
COOKIE_CHARACTERS: Final = 80

# No other use of the same key can be mistaken for these.
NAME: Final = b"workhorse device cookie 1: key id\0"
PURPOSE: Final = b"workhorse device cookie 1: signature\0"


class DeviceCookie(NamedTuple):
    """What a device is given after a login."""

    value: str
    """80 letters, digits, `-` and `_`. Not for a log."""
    max_age_seconds: int

    def __repr__(self) -> str:
        """Without the value."""
        return f"<DeviceCookie for {self.max_age_seconds} seconds>"

    @property
    def header(self) -> tuple[bytes, bytes]:
        """The Set-Cookie header. Its name keeps other hosts and plain HTTP from planting one."""
        value = f"{COOKIE}={self.value}; Max-Age={self.max_age_seconds}; Path=/; Secure; HttpOnly; SameSite=Lax"
        return b"set-cookie", value.encode()


class DeviceCookies:
    """Makes and reads them.

    Args:
        keys: secrets of at least 32 random bytes. The first one signs, and all are taken.
        lifetime_seconds: how long a cookie is taken.

    Raises:
        SettingsError: there is no key, or a key is too short or there twice, or the lifetime is below an hour.
    """

    __slots__ = ("_keys", "_lifetime", "_signing")

    def __init__(self, keys: Sequence[bytes], *, lifetime_seconds: int) -> None:
        if not 1 <= len(keys) <= MAX_KEYS or len(set(keys)) != len(keys):
            raise SettingsError(f"the keys of the login throttle are {len(keys)}; name 1 to {MAX_KEYS} different ones")
        for number, key in enumerate(keys, start=1):
            if len(key) < MIN_KEY_BYTES:
                raise SettingsError(
                    f"key {number} of the login throttle has {len(key)} bytes; it needs {MIN_KEY_BYTES} or more at"
                    " random, such as `openssl rand -base64 48` prints"
                )
        if not 3600 <= lifetime_seconds <= 10 * 366 * 86_400:
            raise SettingsError(f"the device cookie would live {lifetime_seconds} seconds; it is an hour to ten years")
        self._keys = {_key_id(key): key for key in reversed(keys)}
        self._signing = keys[0]
        self._lifetime = lifetime_seconds

    def new(self, account: bytes, *, now: float) -> DeviceCookie:
        """A cookie for a device from which `account` has just logged in, at `now` seconds since 1970."""
        expires = (int(now) + self._lifetime).to_bytes(5, "big")
        signed = VERSION + _key_id(self._signing) + expires + token_bytes(18)
        value = urlsafe_b64encode(signed + _sign(self._signing, signed, account)).decode()
        return DeviceCookie(value, self._lifetime)

    def device_of(self, cookie: str | bytes | None, account: bytes, *, now: float) -> bytes | None:
        """Which device of `account` this is; None if the cookie is not ours, of another account, or too old.

        Never raises, whatever the cookie holds.
        """
        raw = _decode(cookie)
        if len(raw) != COOKIE_BYTES or raw[:1] != VERSION:
            return None
        key = self._keys.get(raw[KEY_ID])
        if key is None or not hmac.compare_digest(_sign(key, raw[SIGNED], account), raw[SIGNATURE]):
            return None
        left = int.from_bytes(raw[EXPIRES], "big") - now
        return raw[NONCE] if 0 < left <= self._lifetime + SKEW_SECONDS else None


def is_device_cookie(set_cookie: bytes) -> bool:
    """Whether this value of a Set-Cookie header is a device cookie's."""
    return set_cookie.startswith(COOKIE.encode() + b"=")


def _key_id(key: bytes) -> bytes:
    return hmac.digest(key, NAME, "sha256")[:4]


def _sign(key: bytes, signed: bytes, account: bytes) -> bytes:
    # The signed part has one size: no two pairs of it and an account are the same bytes.
    return hmac.digest(key, PURPOSE + signed + account, "sha256")


def _decode(cookie: str | bytes | None) -> bytes:
    """The bytes; none where the cookie is not exactly how they are written."""
    if cookie is None or len(cookie) != COOKIE_CHARACTERS:
        return b""
    try:
        text = cookie.encode("ascii") if isinstance(cookie, str) else cookie
        raw = urlsafe_b64decode(text)
    except ValueError:
        return b""
    return raw if urlsafe_b64encode(raw) == text else b""
