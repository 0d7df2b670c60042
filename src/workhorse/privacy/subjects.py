"""A key for each person, under which what is known of them is sealed; and their erasure, by destroying it.

The key lies in the database, wrapped by one that does not. It is made in the unit that first needs it, so that it
commits with what it has sealed. Unwrapped keys are kept in memory for a minute at most, so that is how long another
process may still read after an erasure.

What was sealed stays where it is, in rows, events, backups and the audit log, and can be read by nobody any more.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes
from typing import Final

from workhorse.errors import PROBLEM_PREFIX, Problem
from workhorse.privacy.keys import KeyWrapper
from workhorse.privacy.sealing import KEY_BYTES, open_sealed, seal
from workhorse.sql import load_queries
from workhorse.units import Work

__all__ = ["Erased", "Erasure", "SubjectCipher", "SubjectKeys"]

KEEP_SECONDS: Final = 60.0
MAX_KEPT: Final = 10_000
MAX_SUBJECT: Final = 200
MAX_REWRAPPED: Final = 1_000


class Erased(Problem):
    """410: the subject's key was destroyed, and what was known of them can be read by nobody any more."""

    status = 410
    type = PROBLEM_PREFIX + "erased"
    title = "What was known of this person was erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """That a subject's key was destroyed."""

    subject: str
    destroyed_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, repr=False)
class SubjectCipher:
    """Seals and opens the fields of one subject."""

    subject: str
    _key: bytes

    def __repr__(self) -> str:
        return f"SubjectCipher({self.subject!r})"

    def seal(self, field: str, text: str) -> bytes:
        """Encrypt a field, named as in its table: `patients.phone`."""
        return seal(self._key, text.encode(), subject=self.subject, field=field)

    def open(self, field: str, sealed: bytes) -> str:
        """Decrypt it.

        Raises:
            CannotOpen: it was changed, or is another subject's or another field's.
        """
        return open_sealed(self._key, sealed, subject=self.subject, field=field).decode()


class SubjectKeys:
    """The keys of subjects.

    Args:
        wrapper: wraps them.
        keep_seconds: how long an unwrapped key is kept in memory; 0: not at all.
    """

    def __init__(self, wrapper: KeyWrapper, *, keep_seconds: float = KEEP_SECONDS) -> None:
        self.wrapper: Final = wrapper
        self._keep_seconds = keep_seconds
        self._kept: OrderedDict[str, tuple[float, SubjectCipher]] = OrderedDict()
        self._queries = load_queries("workhorse.privacy", "sql/queries.sql")

    async def cipher(self, work: Work, subject: str, *, make: bool = True) -> SubjectCipher:
        """The subject's cipher. A key is made for a subject who has none, and commits with `work`.

        Args:
            work: the unit.
            subject: names the person, such as `patient/MR-1001`: one to 200 characters.
            make: whether a key is made for a subject who has none; without, such a subject counts as erased.

        Raises:
            Erased: the key was destroyed, or there is none.
            CannotOpen: the key that wrapped it is not there, or the row was changed.
            ValueError: the subject is empty, too long, or has a NUL.
        """
        if not 0 < len(subject) <= MAX_SUBJECT or "\0" in subject:
            raise ValueError(f"a subject has 1 to {MAX_SUBJECT} characters, none of them NUL; this has {len(subject)}")
        kept = self._kept.get(subject)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        row = await self._find(work, subject)
        if row is None and not make:
            raise Erased("Nothing was sealed for this person here.")
        if row is None:
            key = token_bytes(KEY_BYTES)
            wrapped = await self.wrapper.wrap(key, subject)
            await work.execute(self._queries["make"], (subject, wrapped, self.wrapper.current))
            row = await self._find(work, subject)  # another's, if it came first
            assert row is not None
            if row[0] == wrapped:
                # Not kept in memory: this unit may still roll back, and the key with it.
                return SubjectCipher(subject, key)
        stored, by = row
        if stored is None:
            raise Erased
        cipher = SubjectCipher(subject, await self.wrapper.unwrap(bytes(stored), by, subject))
        self._keep(cipher)
        return cipher

    async def erase(self, work: Work, subject: str, *, reason: str) -> Erasure:
        """Destroy the subject's key, with `work`. Who was erased before stays so, with the first time and reason.

        Args:
            work: the unit; rows that are to be deleted or blanked as well belong into it.
            subject: the person.
            reason: why, such as `request of 2026-03-01`; without personal data, since it stays.
        """
        self._kept.pop(subject, None)
        row = await (await work.execute(self._queries["destroy"], (subject, reason))).fetchone()

        async def forget() -> None:
            self._kept.pop(subject, None)  # again: another request may have read the key meanwhile

        work.after_commit(forget)
        return Erasure(subject=subject, destroyed_at=row[0], reason=row[1])

    async def rewrap(self, work: Work, *, at_most: int = 100) -> int:
        """Wrap keys anew that an older wrapping key wrapped, so that it can be taken out once this returns 0.

        Readers and writers go on meanwhile. Returns how many were wrapped anew.

        Raises:
            CannotOpen: an older wrapping key is not there any more.
            ValueError: `at_most` is not between 1 and 1,000.
        """
        if not 1 <= at_most <= MAX_REWRAPPED:
            raise ValueError(f"at_most={at_most} is not between 1 and {MAX_REWRAPPED}")
        current = self.wrapper.current
        rows = await (await work.execute(self._queries["older"], (current, at_most))).fetchall()
        for subject, wrapped, by in rows:
            key = await self.wrapper.unwrap(bytes(wrapped), by, subject)
            again = await self.wrapper.wrap(key, subject)
            await work.execute(self._queries["rewrap"], (again, current, subject))
        return len(rows)

    async def _find(self, work: Work, subject: str) -> tuple[bytes | None, str] | None:
        row: tuple[bytes | None, str] | None = await (await work.execute(self._queries["find"], (subject,))).fetchone()
        return row

    def _keep(self, cipher: SubjectCipher) -> None:
        if self._keep_seconds <= 0:
            return
        self._kept[cipher.subject] = (time.monotonic() + self._keep_seconds, cipher)
        self._kept.move_to_end(cipher.subject)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
