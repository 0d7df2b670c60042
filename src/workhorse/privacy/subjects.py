"""A key for each person, under which what is known of them is sealed; and their erasure, by destroying it.

The key lies in the database, wrapped by one that does not. It is made in the unit that first needs it, so that it
commits with what it has sealed. Unwrapped keys are kept in memory for a minute at most, so that is how long another
process may still read after an erasure.

What was sealed stays where it is, in rows, events, backups and the audit log, and can be read by nobody any more.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes
from typing import Any, Final, TypeAlias, TypeVar, cast

from workhorse.contracts import Query
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
MAX_CALLS: Final = 16
"""Calls to a key service at once."""

T = TypeVar("T")
Step: TypeAlias = Query | Coroutine[Any, Any, Any]
_KeyRow: TypeAlias = tuple[str, bytes | None, str, bool]
"""A subject, the wrapped key, by what it was wrapped, and whether this transaction has made it."""


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
        found = (await self.ciphers(work, [subject], make=make))[subject]
        if found is None:
            raise Erased
        return found

    async def ciphers(
        self, work: Work, subjects: Collection[str], *, make: bool = True
    ) -> dict[str, SubjectCipher | None]:
        """The ciphers of many subjects, asked for at once; None for who was erased, or has no key and is to get none.

        Raises:
            CannotOpen, ValueError: as `cipher`.
        """
        steps = self.steps(subjects, make=make)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return cast("dict[str, SubjectCipher | None]", end.value)
            if isinstance(step, Query):
                answer = await (await work.execute(step.sql, step.params)).fetchall()
            else:
                answer = await step

    def steps(self, subjects: Collection[str], *, make: bool) -> Generator[Step, Any, dict[str, SubjectCipher | None]]:
        """What `ciphers` has to ask, one step after the other, for who asks the database in another way.

        A step is a query, to be answered with all its rows, or something to await, with what it returns.
        """
        for subject in subjects:
            if not 0 < len(subject) <= MAX_SUBJECT or "\0" in subject:
                raise ValueError(
                    f"a subject has 1 to {MAX_SUBJECT} characters, none of them NUL; this has {len(subject)}"
                )
        now = time.monotonic()
        found: dict[str, SubjectCipher | None] = {}
        asked: list[str] = []
        for subject in dict.fromkeys(subjects):
            kept = self._kept.get(subject)
            if kept is not None and now < kept[0]:
                found[subject] = kept[1]
            else:
                asked.append(subject)
        rows: list[_KeyRow] = (yield self._query("find", asked)) if asked else []
        keyless = sorted({*asked} - {row[0] for row in rows})
        if keyless and make:
            keys = {subject: token_bytes(KEY_BYTES) for subject in keyless}
            wrapped: list[bytes] = yield _in_turns(self.wrapper.wrap, [(key, subject) for subject, key in keys.items()])
            by = self.wrapper.current
            lines = [[subject, key.hex(), by] for subject, key in zip(keyless, wrapped, strict=True)]
            # Not kept in memory: this unit may still roll back, and the keys with it.
            found |= {
                subject: SubjectCipher(subject, keys[subject]) for (subject,) in (yield self._query("make", lines))
            }
            others = [subject for subject in keyless if subject not in found]
            rows = [*rows, *((yield self._query("find", others)) if others else [])]
        whole = [row for row in rows if row[1] is not None]
        if not whole:
            return {subject: found.get(subject) for subject in subjects}
        opened: list[bytes] = yield _in_turns(
            self.wrapper.unwrap, [(bytes(cast("bytes", key)), by, subject) for subject, key, by, _ in whole]
        )
        for (subject, _, _, own), key in zip(whole, opened, strict=True):
            found[subject] = cipher = SubjectCipher(subject, key)
            if not own:
                self._keep(cipher)
        return {subject: found.get(subject) for subject in subjects}

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

    def _query(self, name: str, content: Sequence[object]) -> Query:
        return Query(self._queries[name], (json.dumps(content),))

    def _keep(self, cipher: SubjectCipher) -> None:
        if self._keep_seconds <= 0:
            return
        self._kept[cipher.subject] = (time.monotonic() + self._keep_seconds, cipher)
        self._kept.move_to_end(cipher.subject)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


async def _in_turns(call: Callable[..., Awaitable[T]], arguments: Sequence[tuple[object, ...]]) -> list[T]:
    """Call it with each of the arguments, so many at once."""
    done: list[T] = []
    for first in range(0, len(arguments), MAX_CALLS):
        done += await asyncio.gather(*(call(*given) for given in arguments[first : first + MAX_CALLS]))
    return done
