"""Methods that nothing here answers, and headers that make one method into another behind the guard's back.

A method is a word that is compared byte by byte (RFC 9110, section 9.1): `get` is not GET. What is on no list gets
501, whatever the path: to the guard, TRACE and a made-up word are the same, that is, not implemented.

Some frameworks take the method from a header instead, for clients that can only send GET and POST. By then the policy,
the CSRF check and the log have gone by the method that stood in the request line. So such a header is refused, also
where the app would ignore it: a client that sends one expects something else than what it would get.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from workhorse.errors import SettingsError
from workhorse.guard.facts import Facts
from workhorse.guard.problems import MalformedRequest, MethodNotImplemented
from workhorse.guard.verdict import Refusal

__all__ = ["METHODS", "MethodRules", "check_method", "compile_methods"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""RFC 9110, section 9.3, and RFC 5789, but for CONNECT and TRACE."""

NEVER: Final = frozenset({"CONNECT", "TRACE", "TRACK", "DEBUG"})
"""They make a tunnel of a server, or send a request back with the credentials that a proxy put into it."""

OVERRIDES: Final = (b"x-http-method-override", b"x-http-method", b"x-method-override")

_WORD: Final = re.compile(r"[A-Z]{1,30}").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRules:
    """The methods that are served."""

    served: frozenset[str]
    override: bool


def compile_methods(*, methods: Iterable[str] = METHODS, insecure_override: bool = False) -> MethodRules:
    """Compile the methods that are served.

    Args:
        methods: the words, in upper case. QUERY and those of WebDAV are served where they are listed.
        insecure_override: let headers pass by which an app may take another method than the guard knows of.

    Raises:
        SettingsError: a word is malformed, or one that is never served.
    """
    words = frozenset(methods)
    for word in sorted(words):
        if not _WORD(word):
            raise SettingsError(f"the method {word!r} is none; write it in upper case, such as `PATCH`")
        if word in NEVER:
            raise SettingsError(f"the method {word!r} is never served, because it gives credentials away; take it out")
    if not words:
        raise SettingsError(f"no method is served; write for example {', '.join(METHODS)}")
    return MethodRules(served=words, override=insecure_override)


def check_method(rules: MethodRules, facts: Facts) -> Refusal | None:
    """Refuse a method that is not served, and a header that names another one.

    Threat: cross-site tracing, and rules by method that are passed by a word that they do not know or by a header
        that the app takes the method from (CWE-650, CWE-749, CWE-436).
    Method: the word must be on the list, byte for byte; the three headers that frameworks know must not be there.
    Assumes: the app takes no method from a query or a form (`_method`), where the guard does not look.
    Standard: RFC 9110, sections 9.1 and 15.6.2; OWASP ASVS 5.0.0 V4.1.4 and V13.4.4; WSTG-CONF-06.
    """
    if facts.method not in rules.served:
        return Refusal("method.not_served", MethodNotImplemented())
    headers = facts.headers
    if not rules.override and (OVERRIDES[0] in headers or OVERRIDES[1] in headers or OVERRIDES[2] in headers):
        return Refusal(
            "method.override", MalformedRequest("The method is the one in the request line; no header says another.")
        )
    return None
