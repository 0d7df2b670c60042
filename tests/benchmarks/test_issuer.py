"""The benchmark's issuer is one that a bank in production takes tokens of."""

import asyncio
import time

from benchmarks.bank.issuer import AUDIENCE, run_issuer
from workhorse.identity import Bearer, Credentials
from workhorse.principal import Principal


def test_a_bank_finds_the_issuers_key_and_knows_each_caller() -> None:
    async def main() -> list[Principal]:
        with run_issuer() as issuer:
            bearer = Bearer(issuer.name, audience=AUDIENCE)
            await bearer.open()
            try:
                return [
                    await bearer.verify(Credentials(authorization=f"Bearer {token}".encode()), time.time())
                    for token in issuer.mint(3)
                ]
            finally:
                await bearer.close()

    callers = asyncio.run(main())
    assert [caller.subject for caller in callers] == ["caller-0", "caller-1", "caller-2"]
    assert all("transfers:write" in caller.scopes for caller in callers)
