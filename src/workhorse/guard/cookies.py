"""Several Cookie fields as the one that they are.

HTTP/2 lets a client send its cookies in as many fields as it likes, and demands that they be put together before
anything but HTTP/2 reads them (RFC 9113, section 8.2.3). Not all servers do. A guard that read the last field and an
app that reads the first could each believe another session, so both get one field.
"""

from typing import Final

from workhorse.asgi import Scope
from workhorse.guard.facts import Facts

__all__ = ["join_cookies"]

COOKIE: Final = b"cookie"


def join_cookies(facts: Facts, scope: Scope) -> None:
    """Make one Cookie field of several, for the guard and for the app. Size limits hold for the bytes as they came."""
    cookies = [value for name, value in facts.raw if name == COOKIE]
    if len(cookies) < 2:
        return
    joined = b"; ".join(cookies)
    raw = [field for field in facts.raw if field[0] != COOKIE]
    raw.append((COOKIE, joined))
    facts.raw = scope["headers"] = raw
    facts.headers[COOKIE] = joined
