"""The tokens with which the bank is called: each teller is somebody else, and none of them is an auditor."""

import asyncio
import time

from bank.callers import AUDITOR_SCOPES, TELLER_SCOPES, issue_tokens
from workhorse.identity import Bearer, Credentials
from workhorse.principal import Principal
from workhorse.settings import Settings


def test_tellers_take_turns_and_the_auditor_may_only_read_the_books(settings: Settings) -> None:
    callers = issue_tokens(settings, tellers=3)

    async def who(token: str) -> Principal:
        credentials = Credentials(authorization=f"Bearer {token}".encode())
        return await Bearer(settings=settings).verify(credentials, time.time())

    tellers = [asyncio.run(who(callers.teller(number))) for number in range(4)]
    assert [teller.subject for teller in tellers] == ["teller-1", "teller-2", "teller-3", "teller-1"]
    assert {scope for teller in tellers for scope in teller.scopes} == set(TELLER_SCOPES)
    auditor = asyncio.run(who(callers.auditor))
    assert (auditor.subject, auditor.scopes) == ("auditor", frozenset(AUDITOR_SCOPES))
    assert callers.auditor not in repr(callers)
