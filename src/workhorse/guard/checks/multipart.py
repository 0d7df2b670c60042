"""Forms of many little parts, and forms that two parsers would cut differently; counted as they stream.

Each part and each field becomes an object, some of them a file, so a body within its limit of bytes may still hold a
hundred thousand of them. And parsers of multipart disagree at the edges: some take the delimiter anywhere in a line,
some after a bare line feed, some go on after its end, some take a form that breaks off. What only some of them take is
refused here. An honest client makes its boundary up at random, so nothing of it is ever in its content.

The content is passed over by one search for the delimiter. What a chunk cuts in two, a delimiter or the head of a
part, is kept until the next chunk, which is never more than the limit of such a head.
"""

import re
from dataclasses import dataclass
from typing import Final

from workhorse.errors import SettingsError
from workhorse.guard.checks.content_type import MediaType
from workhorse.guard.problems import BodyTooLarge, MalformedRequest
from workhorse.guard.verdict import Refusal

__all__ = ["FormFields", "FormRules", "Multipart", "check_boundary", "compile_forms"]

# RFC 2046, section 5.1.1.
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]").fullmatch
_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormRules:
    """How much a form may hold."""

    parts: int
    """Parts of a multipart body, or fields of a urlencoded one."""
    head_bytes: int
    """Bytes of the header fields of one part."""


def compile_forms(*, parts: int = 1000, head_bytes: int = 4096) -> FormRules:
    """Compile how much a form may hold.

    Raises:
        SettingsError: a value is out of its range.
    """
    if parts < 1:
        raise SettingsError(f"guard.max_parts is {parts}; it is 1 or more, as a rule 1000")
    if not 256 <= head_bytes <= 65_536:
        raise SettingsError(f"the head of a part may have {head_bytes} bytes; it is 256 to 65536, as a rule 4096")
    return FormRules(parts=parts, head_bytes=head_bytes)


def check_boundary(kind: MediaType) -> Refusal | None:
    """Refuse a multipart body without a valid boundary, before a byte of it is read.

    Threat: as of `Multipart`: without one, each parser makes of it what it likes (CWE-436).
    Method: 1 to 70 characters of the standard's, the last of them no blank.
    Assumes: `check_content_type` has read it, and found it once.
    Standard: RFC 2046, section 5.1.1; RFC 7578, section 4.1; OWASP ASVS 5.0.0 V1.5.3.
    """
    if not kind.is_multipart or _BOUNDARY(kind.boundary) is not None:
        return None
    return Refusal(
        "multipart.boundary", MalformedRequest("The boundary of the multipart body is missing or malformed.")
    )


class Multipart:
    """Counts the parts of one multipart body.

    Threat: memory, files and time spent on very many parts or on endless part headers (CWE-770, CWE-400), and parts
        that one reader sees and another does not (CWE-436).
    Method: each delimiter must begin a line, and it or `--` must end that line, by CRLF or with the body; the head of a
        part must end within its limit; nothing is delimited after the end, and the end must come.
    Assumes: `check_boundary` has run. What is in a part, a file's name for one, is the app's to check.
    Standard: RFC 2046, section 5.1.1; RFC 7578; OWASP ASVS 5.0.0 V1.5.3, V5.2.1 and V15.2.2; OWASP API4:2023.
    """

    __slots__ = ("_begun", "_closed", "_delimiter", "_head_bytes", "_in_head", "_kept", "_limit", "_parts", "control")

    def __init__(self, rules: FormRules, boundary: bytes) -> None:
        self.control = "multipart.form"
        self._delimiter = b"--" + boundary
        self._limit = rules.parts
        self._head_bytes = rules.head_bytes
        # The first delimiter begins the body, as if a line had ended before it.
        self._kept = b"\r\n"
        self._in_head = False
        self._closed = False
        self._begun = False
        self._parts = 0

    def feed(self, chunk: bytes, *, last: bool) -> bytes:
        """Take the next bytes, and return them.

        Raises:
            Problem: there are too many parts, a part's head is too long, or parsers would disagree on it.
        """
        self._begun = self._begun or bool(chunk)
        if not self._begun:
            return chunk
        text = self._kept + chunk
        position = 0
        while position >= 0:
            if self._in_head:
                position = self._read_head(text, position)
            else:
                position = self._find_delimiter(text, position, last=last)
        if last and not self._closed:
            raise MalformedRequest("The multipart body breaks off.")
        return chunk

    def _find_delimiter(self, text: bytes, position: int, *, last: bool) -> int:
        """Go on behind the next delimiter; -1 if there is none yet, with what may be its begin kept."""
        delimiter = self._delimiter
        found = text.find(delimiter, position)
        if found < 0:
            # As much as may be a delimiter's begin, and the end of the line before it.
            self._kept = text[max(position, len(text) - len(delimiter) - 1) :]
            return -1
        end = found + len(delimiter)
        follows = text[end : end + 4]
        # Two bytes are always kept in front of what may be a delimiter.
        if self._closed or text[max(0, found - 2) : found] != b"\r\n":
            raise _misplaced()
        if not follows.startswith(b"\r\n"):
            if follows in {b"--\r\n", b"--"} and (last or len(follows) == 4):
                self._closed = True
                return end + 2
            if last or (not b"--\r\n".startswith(follows) and follows != b"\r"):
                raise _misplaced()
            self._kept = text[found - 2 :]
            return -1
        self._parts += 1
        if self._parts > self._limit:
            self.control = "multipart.parts"
            raise BodyTooLarge(f"At most {self._limit} parts are taken.")
        self._in_head = True
        return end

    def _read_head(self, text: bytes, position: int) -> int:
        """Go on behind a part's head; -1 if its end has not come, with all of it kept.

        `position` is that of the line break that ends the delimiter, which also ends a head without any field.
        """
        end = text.find(_END_OF_HEAD, position, position + self._head_bytes + 4)
        if end < 0:
            if len(text) - position >= self._head_bytes + 4:
                self.control = "multipart.head"
                raise BodyTooLarge(f"At most {self._head_bytes} bytes of header fields are taken in a part.")
            self._kept = text[position:]
            return -1
        if text.find(self._delimiter, position, end) >= 0:
            raise _misplaced()
        self._in_head = False
        # The line break that ends an empty part's head may begin the next delimiter.
        return end + 2


def _misplaced() -> MalformedRequest:
    return MalformedRequest("The boundary of the multipart body is found where no part begins or ends.")


class FormFields:
    """Counts the fields of one urlencoded body.

    Threat: as of `Multipart`, and one field that comes many thousand times (CWE-770, CWE-235).
    Method: the number of separators. `;` is one to some parsers; an honest client escapes it.
    Assumes: nothing.
    Standard: URL standard, section 5.1; OWASP ASVS 5.0.0 V15.2.2 and V15.3.7.
    """

    __slots__ = ("_fields", "_limit", "control")

    def __init__(self, rules: FormRules) -> None:
        self.control = "form.fields"
        self._limit = rules.parts
        self._fields = 1

    def feed(self, chunk: bytes, *, last: bool) -> bytes:  # noqa: ARG002 - the words of every inspector
        """Take the next bytes, and return them.

        Raises:
            Problem: there are too many fields.
        """
        self._fields += chunk.count(b"&") + chunk.count(b";")
        if self._fields > self._limit:
            raise BodyTooLarge(f"At most {self._limit} fields are taken.")
        return chunk
