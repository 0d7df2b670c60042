"""What people have agreed to, for which purpose, and whether that still holds (GDPR, articles 6, 7 and 21).

    NEWS = Purpose("newsletter", text="We send you our newsletter once a month.", version=2)

    await NEWS.give(work, "patient/7", how="web form")
    if await NEWS.allowed(work, "patient/7"): ...
    await NEWS.withdraw(work, "patient/7", how="link in the letter")

Each word of a person is a row that stays, so that one can show what they had agreed to at any time (article 7, 1), and
an event of the journal, which the audit log covers. Consent to an older version of the text does not hold for a newer
one. To take it back is as easy as to give it: one call, which never fails for who has not agreed (article 7, 3).
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from workhorse.errors import SettingsError
from workhorse.journal.events import Event, EventBox
from workhorse.privacy.places import split_subject
from workhorse.sql import load_queries
from workhorse.units import Work

__all__ = ["Consent", "Purpose"]

MAX_NAME: Final = 100
MAX_HOW: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """One word of a person."""

    purpose: str
    given: bool
    """False: taken back."""
    version: int
    """Of the text that they were shown."""
    how: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Purpose:
    """What personal data are used for, with the person's consent.

    Args:
        name: such as `newsletter`; it never changes.
        text: what people are shown and agree to.
        version: of the text. With a new one everybody is asked again.

    Raises:
        SettingsError: the name or the version is none.
    """

    name: str
    text: str = field(kw_only=True)
    version: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME or not self.name.isprintable() or self.version < 1 or not self.text:
            raise SettingsError(
                f"the purpose {self.name!r} of version {self.version} needs a name of 1 to {MAX_NAME} characters, a"
                " text, and a version from 1"
            )

    async def give(self, work: Work, subject: str, *, how: str) -> Consent:
        """Record that a person agrees to the present text.

        Args:
            work: the unit.
            subject: the person, such as `patient/7`.
            how: by what they said so, such as `web form`.

        Raises:
            ValueError: the subject or `how` is malformed.
        """
        return await self._record(work, subject, given=True, how=how)

    async def withdraw(self, work: Work, subject: str, *, how: str) -> Consent:
        """Record that a person takes it back, or has never agreed.

        Raises:
            ValueError: the subject or `how` is malformed.
        """
        return await self._record(work, subject, given=False, how=how)

    async def allowed(self, work: Work, subject: str) -> bool:
        """Whether the person's latest word is that they agree to the present text."""
        queries = load_queries("workhorse.privacy", "sql/queries.sql")
        row = await (await work.execute(queries["latest_consent"], (subject, self.name))).fetchone()
        return row is not None and bool(row[0]) and row[1] == self.version

    async def _record(self, work: Work, subject: str, *, given: bool, how: str) -> Consent:
        split_subject(subject)
        if not 0 < len(how) <= MAX_HOW or not how.isprintable():
            raise ValueError(f"how={how[:220]!r} is not 1 to {MAX_HOW} printable characters, such as 'web form'")
        queries = load_queries("workhorse.privacy", "sql/queries.sql")
        values = (subject, self.name, given, self.version, how)
        row = await (await work.execute(queries["add_consent"], values)).fetchone()
        word = "audit.consent_given" if given else "audit.consent_withdrawn"
        facts = {"purpose": self.name, "version": self.version, "how": how}
        await work.put(EventBox, Event.of(word, subject=subject, data=facts))
        return Consent(purpose=self.name, given=given, version=self.version, how=how, recorded_at=row[0])
