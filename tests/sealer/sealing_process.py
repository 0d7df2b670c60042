"""Seals what there is, in a process that kills itself at the place that it is told.

python -m tests.sealer.sealing_process DATABASE_URL ANCHOR_FILE PLACE
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.sealer.kit import sealer
from tests.units.databases import open_database
from workhorse.audit import Note
from workhorse.sealer import FileAnchor, Sealer
from workhorse.sealer.store import LogStore
from workhorse.units import Work

PLACES = ("told of the key", "entries written", "sealed", "signed, not committed", "signed", "anchored")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Store(LogStore):
    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    async def save(self, work: Work, *arguments: Any) -> None:
        if self.place == "told of the key":
            die()
        await super().save(work, *arguments)
        if self.place == "entries written":
            die()


class Anchor(FileAnchor):
    place: str

    async def keep(self, note: Note, *, after: Note | None) -> bool:
        if self.place == "signed":
            die()
        kept = await super().keep(note, after=after)
        if self.place == "anchored":
            die()
        return kept


async def main(url: str, path: str, place: str) -> None:
    Anchor.place = place
    async with open_database("pool", url) as database:
        one = sealer(database, anchors=[Anchor(Path(path))], batch=20)
        one._store = Store(place)
        sign, sign_in = one.sign, one._sign

        async def dying_sign() -> Note | None:
            if place == "sealed":
                die()
            return await sign()

        async def dying_sign_in(*arguments: Any) -> Note | None:
            note = await sign_in(*arguments)
            if place == "signed, not committed":
                die()
            return note

        setattr(one, Sealer.sign.__name__, dying_sign)
        setattr(one, Sealer._sign.__name__, dying_sign_in)
        await one.drain()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
