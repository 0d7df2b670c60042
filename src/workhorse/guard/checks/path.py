"""Paths that a proxy, the guard, the router and the file system may each take for another one.

A path that is spelled in the ordinary way passes in one match. What holds an escape or a dot in front is taken apart:
each rule refuses a spelling that some reader is known to turn into another path, and nothing else. Escapes that every
client sends, such as `%20` or `%C3%A9`, pass, and so does an escaped percent sign that stands for itself.

Empty segments are refused in front only. `//host/path` is a whole other address once it stands in a Location or is
given to a URL parser; `/a//b` is one path to the guard and to the routers of Python, which both take it as it is (what
Litestar makes of it, its integration makes first).
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from workhorse.guard.facts import Facts
from workhorse.guard.problems import MalformedRequest
from workhorse.guard.verdict import Refusal

__all__ = ["PathRules", "check_path", "compile_path"]

# Segments of unreserved characters and harmless delimiters. None begins with a dot, and none but the last is empty.
_ORDINARY: Final = re.compile(rb"(?:/[!$&'()*+,0-9:=@A-Z_a-z~-][!$&'()*+,.0-9:=@A-Z_a-z~-]*+)++/?|/").fullmatch

# The control characters, the blank and what is not ASCII; and what a browser or a server reads as a separator.
_RAW_REFUSED: Final = re.compile(rb"[\x00-\x20\x7f-\xff\\#?]").search
_MALFORMED_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}").search
_ESCAPED_SEPARATOR: Final = re.compile(rb"%(?:2[Ff]|5[Cc])").search
_ESCAPED_BACKSLASH: Final = re.compile(rb"%5[Cc]").search
# Letters, digits, `-` and `_`. Clients do escape `~` (RFC 3986, section 2.3), and some escape the dot of a file name.
_NEEDLESS_ESCAPE: Final = re.compile(rb"%(?:2[Dd]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff])").search
# Of the decoded path: C0, DEL, and C1 as UTF-8.
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]").search
# `.`, `..` and nothing, also before parameters, which a reader in between may cut off: `/..;a=b/` for `/../`.
_DOT_SEGMENT: Final = re.compile(rb"/(?:\.\.?(?:;[^/]*)?|;[^/]*)(?=/|\Z)").search


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRules:
    """Which spellings are taken."""

    needless_escapes: bool
    """Take letters, digits, `-` and `_` as escapes: `/%61dmin` for `/admin`."""


def compile_path(*, insecure_needless_escapes: bool = False) -> PathRules:
    """Compile the rules of paths.

    Args:
        insecure_needless_escapes: take `/%61dmin` for `/admin`, as the router does. A rule for `/admin` in a proxy
            that compares before it decodes is then no rule.
    """
    return PathRules(needless_escapes=insecure_needless_escapes)


def check_path(
    rules: PathRules, facts: Facts, *, encoded_slashes: bool = False, double_escapes: bool = False
) -> Refusal | None:
    """Refuse a path that two readers could understand as two paths.

    Threat: rules of a proxy or of a policy that are passed by another spelling of the path, and files outside of
        their folder (CWE-22, CWE-41, CWE-172, CWE-180, CWE-436, CWE-647).
    Method: the raw path must begin with one slash; hold no backslash, fragment, blank, control character or byte that
        is not ASCII; escape in two hexadecimal digits, and no slash, backslash, letter, digit, `-` or `_`; and decode,
        once, to UTF-8 in its shortest form, without control characters, dot segments and further escapes.
    Assumes: the server gives the raw path, without the query. One that takes an absolute-form target apart gives its
        host as Host (RFC 9112, section 3.2.2). The app does not decode or normalise (NFKC) once more.
    Standard: RFC 3986, sections 2.1, 2.3, 3.3 and 6.2.2; RFC 3629, section 3; OWASP ASVS 5.0.0 V1.1.1, V1.5.3 and
        V5.3.2; WSTG-ATHZ-01.

    Args:
        rules: which spellings are taken.
        facts: the request.
        encoded_slashes: the route takes `%2F` inside of a segment. To the router it is a slash.
        double_escapes: the route takes what is escaped twice. To the router it is what is escaped once.
    """
    raw = facts.raw_path
    if _ORDINARY(raw) is not None:
        return None
    if raw == b"*" and facts.method == "OPTIONS":  # RFC 9110, section 9.3.7: about the server as a whole
        return None
    fault = (
        _raw_fault(raw)
        or _escape_fault(rules, raw, encoded_slashes=encoded_slashes)
        or _decoded_fault(raw, double_escapes=double_escapes)
    )
    return Refusal(fault[0], MalformedRequest(fault[1])) if fault is not None else None


def _raw_fault(raw: bytes) -> tuple[str, str] | None:
    if not raw.startswith(b"/"):
        return "path.form", "The request target is not a path."
    if _RAW_REFUSED(raw) is not None:
        return "path.character", "The path holds a character that is not allowed there unless it is escaped, or at all."
    return None


def _escape_fault(rules: PathRules, raw: bytes, *, encoded_slashes: bool) -> tuple[str, str] | None:
    if _MALFORMED_ESCAPE(raw) is not None:
        return "path.escape", "The path holds a percent sign that does not begin an escape."
    if (_ESCAPED_BACKSLASH(raw) if encoded_slashes else _ESCAPED_SEPARATOR(raw)) is not None:
        return "path.escaped_separator", "The path holds an escaped slash or backslash."
    if not rules.needless_escapes and _NEEDLESS_ESCAPE(raw) is not None:
        return "path.needless_escape", "The path holds an escaped letter, digit, hyphen or underscore."
    return None


def _decoded_fault(raw: bytes, *, double_escapes: bool) -> tuple[str, str] | None:
    path = unquote_to_bytes(raw)
    try:
        path.decode()
    except UnicodeDecodeError:
        return "path.encoding", "The path is not UTF-8."
    if _CONTROL(path) is not None:
        return "path.character", "The path holds an escaped control character."
    if not double_escapes and _ESCAPE(path) is not None:
        return "path.double_escape", "The path is escaped twice."
    if path.startswith(b"//"):
        return "path.empty_segment", "The path begins with two slashes."
    if _DOT_SEGMENT(path) is not None:
        return "path.dot_segment", "The path holds a segment that is `.`, `..` or only parameters."
    return None
