"""The token by which a very old browser proves that a form of this service sent the request.

A browser that sends neither Sec-Fetch-Site nor Origin cannot be told from a program, so `checks.csrf` has nothing to
go by. What such a browser can do is send a value twice: in a cookie, and in a form or header that only a page of this
service can fill in. This is the signed double submit of the OWASP cheat sheet, so nothing is kept on the server:

    cookie = base64url(seconds || random || HMAC-SHA-256(key, binding, seconds, random))
    token  = base64url(mask || cookie xor mask)         a new mask in each reply

The signature holds for one session only, so that an attacker's own token is worth nothing in another one. The mask
keeps the token from being guessed byte by byte through the length of a compressed reply (BREACH).
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest, digest
from secrets import token_bytes
from typing import Final

from workhorse.errors import SettingsError
from workhorse.guard.facts import Facts
from workhorse.guard.problems import CrossOriginRefused
from workhorse.guard.verdict import Refusal

__all__ = [
    "COOKIE",
    "FIELD",
    "HEADER",
    "CsrfTokenRules",
    "check_csrf_token",
    "compile_csrf_token",
    "csrf_cookie",
    "is_fresh",
    "mask_token",
    "new_token",
    "token_cookie",
    "verify_token",
]

COOKIE: Final = "__Host-csrf"
HEADER: Final = "X-CSRF-Token"
FIELD: Final = "csrf_token"

MIN_KEY_BYTES: Final = 32
MAX_KEYS: Final = 8

SECONDS: Final = slice(0, 6)
SIGNED: Final = slice(0, 22)
"""The time and 16 random bytes."""
SIGNATURE: Final = slice(22, 54)
TOKEN_BYTES: Final = 54
# The clocks of two machines may differ by so much.
SKEW_SECONDS: Final = 60
# No other use of the same key can be mistaken for this one.
PURPOSE: Final = b"workhorse csrf token 1\0"

_COOKIE: Final = COOKIE.encode()
_HEADER: Final = HEADER.lower().encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class CsrfTokenRules:
    """How tokens are signed."""

    keys: tuple[bytes, ...]
    """The first one signs, and all are taken."""
    lifetime_seconds: int

    def __repr__(self) -> str:
        """Without the keys."""
        return f"CsrfTokenRules({len(self.keys)} keys, lifetime_seconds={self.lifetime_seconds})"


def compile_csrf_token(*, keys: Iterable[bytes], lifetime_seconds: int = 12 * 3600) -> CsrfTokenRules:
    """Compile how tokens are signed.

    Args:
        keys: secrets of at least 32 random bytes. To change the key, put the new one in front, and take the old one
            out once `lifetime_seconds` have gone by.
        lifetime_seconds: how long a token is taken.

    Raises:
        SettingsError: there is no key, or a key is too short, or there twice.
    """
    given = tuple(keys)
    if not 1 <= len(given) <= MAX_KEYS or len(set(given)) != len(given):
        raise SettingsError(f"the keys of the CSRF token are {len(given)}; name 1 to {MAX_KEYS} different ones")
    for number, key in enumerate(given, start=1):
        if len(key) < MIN_KEY_BYTES:
            raise SettingsError(
                f"key {number} of the CSRF token has {len(key)} bytes; it needs {MIN_KEY_BYTES} or more at random, such"
                " as `openssl rand -base64 48` prints"
            )
    if lifetime_seconds < 60:
        raise SettingsError(f"the lifetime of the CSRF token is {lifetime_seconds} seconds; it is 60 or more")
    return CsrfTokenRules(keys=given, lifetime_seconds=lifetime_seconds)


def check_csrf_token(rules: CsrfTokenRules, facts: Facts, *, binding: bytes, now: float) -> Refusal | None:
    """Refuse a request whose header X-CSRF-Token does not belong to its cookie.

    A form sends the token as the field `csrf_token` instead: whoever reads the body asks `verify_token`.

    Threat: cross-site request forgery through browsers that do not tell where a request comes from (CWE-352).
    Method: the cookie must be signed for this session and not too old, and the token, unmasked, must be the cookie.
        All comparisons take the same time wherever two values differ.
    Assumes: no page of this service can be made to run another's script. The name `__Host-` keeps other hosts and
        plain HTTP from planting the cookie.
    Standard: OWASP CSRF prevention cheat sheet (signed double submit); RFC 2104; draft-ietf-httpbis-rfc6265bis,
        section 4.1.3.2; OWASP ASVS 5.0.0 V3.5.1, V3.3.1 and V3.3.3.

    Args:
        rules: how tokens are signed.
        facts: the request.
        binding: what tells this session from others, such as its id; empty for a caller without one.
        now: seconds since 1970.
    """
    token = facts.headers.get(_HEADER)
    cookie = csrf_cookie(facts)
    if token is None or cookie is None:
        return Refusal("csrf.token_missing", CrossOriginRefused())
    if not verify_token(rules, token=token, cookie=cookie, binding=binding, now=now):
        return Refusal("csrf.token", CrossOriginRefused())
    return None


def new_token(rules: CsrfTokenRules, *, binding: bytes, now: float) -> bytes:
    """A cookie's value for this session. A new one is due after sign-in and sign-out, when the binding changes."""
    signed = int(now).to_bytes(6, "big") + token_bytes(16)
    return urlsafe_b64encode(signed + _sign(rules.keys[0], signed, binding))


def token_cookie(rules: CsrfTokenRules, value: bytes) -> tuple[bytes, bytes]:
    """The Set-Cookie header for what `new_token` made.

    Lax, not Strict: a page reached by a link from elsewhere would not see the cookie, make another one, and spoil the
    forms that are open in other tabs.
    """
    attributes = b"Max-Age=%d; Path=/; Secure; SameSite=Lax; HttpOnly" % rules.lifetime_seconds
    return b"set-cookie", b"%b=%b; %b" % (_COOKIE, value, attributes)


def mask_token(cookie: bytes) -> str:
    """The cookie's value as it stands in a form or a page; another one at each call.

    Raises:
        ValueError: `cookie` is not what `new_token` makes.
    """
    plain = _decode(cookie)
    if len(plain) != TOKEN_BYTES:
        raise ValueError("this is not the value of a CSRF cookie; make one with new_token()")
    mask = token_bytes(TOKEN_BYTES)
    return urlsafe_b64encode(mask + _xor(plain, mask)).decode()


def verify_token(rules: CsrfTokenRules, *, token: bytes | str, cookie: bytes, binding: bytes, now: float) -> bool:
    """Whether `token`, from a header or a form field, and `cookie` belong together and to this session.

    The token is what `mask_token` made, or the cookie's value itself, as a program has it.
    """
    plain = _decode(cookie)
    if len(plain) != TOKEN_BYTES:
        return False
    try:
        sent = _decode(token.encode() if isinstance(token, str) else token)
    except UnicodeEncodeError:
        return False
    if len(sent) == 2 * TOKEN_BYTES:
        sent = _xor(sent[:TOKEN_BYTES], sent[TOKEN_BYTES:])
    same = compare_digest(sent, plain)
    signed = False
    for key in rules.keys:
        # Every key is tried, so that the time does not tell which one it was.
        signed |= compare_digest(_sign(key, plain[SIGNED], binding), plain[SIGNATURE])
    age = now - int.from_bytes(plain[SECONDS], "big")
    return same and signed and -SKEW_SECONDS <= age < rules.lifetime_seconds


def is_fresh(rules: CsrfTokenRules, cookie: bytes, *, binding: bytes, now: float) -> bool:
    """Whether a cookie is this session's, and has half of its life or more before it: time enough for a form."""
    older = now + rules.lifetime_seconds / 2
    return verify_token(rules, token=cookie, cookie=cookie, binding=binding, now=now) and verify_token(
        rules, token=cookie, cookie=cookie, binding=binding, now=older
    )


def csrf_cookie(facts: Facts) -> bytes | None:
    """The value of the cookie; None if there is none, or more than one, of which one must be planted."""
    found: list[bytes] = []
    for name, value in facts.raw:
        if name == b"cookie":
            for pair in value.split(b";"):
                key, _, content = pair.strip(b" \t").partition(b"=")
                if key == _COOKIE:
                    found.append(content)
    return found[0] if len(found) == 1 else None


def _sign(key: bytes, signed: bytes, binding: bytes) -> bytes:
    # The length in front: no two pairs of a binding and a signed part are the same bytes.
    return digest(key, b"%b%d:%b%b" % (PURPOSE, len(binding), binding, signed), "sha256")


def _decode(text: bytes) -> bytes:
    """The bytes; none where `text` is not exactly how they are written."""
    if len(text) > 4 * TOKEN_BYTES:
        return b""
    try:
        plain = urlsafe_b64decode(text)
    except ValueError:
        return b""
    return plain if urlsafe_b64encode(plain) == text else b""


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")
