"""Brings each signed checkpoint to a witness, and its signature back into the database.

Beside the sealer and never in its way: a witness that is away, refuses or lies holds up neither sealing nor signing.
What is missing then is its signature, which nobody can make in its stead, and which verifiers ask for.

Any number of processes run this. One of them asks at a time: it claims the witness's row until its deadline, and no
transaction is open while it waits. After a failure the pause doubles, over all processes and restarts.

A witness that has signed more than the database has, or refuses the proof, says that the log was set back or forked.
Its answer is not signed, so it is reported and not obeyed: another team must not be able to stop this log.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workhorse.audit.faults import AuditFault
from workhorse.audit.keys import Verifier, signed_at
from workhorse.audit.notes import Note
from workhorse.audit.witness import AddCheckpoint
from workhorse.contracts import Database
from workhorse.sealer.store import LogStore
from workhorse.sealer.witnesses import DEADLINE_SECONDS, WitnessClient, WitnessElsewhere, WitnessFault, WitnessWrong
from workhorse.telemetry.lines import Level
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Unit

__all__ = ["Cosigner"]

LOOK_SECONDS: Final = 1.0
"""Between two looks whether the witness is due, at the most."""
REFRESH_SECONDS: Final = 600.0
"""A checkpoint that stays the last is signed again after so long, with a new time: nothing came after it."""
RETRY_SECONDS: Final = 2.0
MAX_RETRY_SECONDS: Final = 300.0
MAX_DOUBLINGS: Final = 10
UNIT_SECONDS: Final = 30.0
CLAIM_SECONDS: Final = 2 * DEADLINE_SECONDS + UNIT_SECONDS
"""A turn asks twice at most. Whoever is killed in it leaves the witness alone for so long."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one turn is about."""

    note: Note
    size: int
    known: int
    """Entries that the witness has signed, as far as is known."""
    failures: int
    signed_seconds_ago: float | None

    @property
    def is_due(self) -> bool:
        """Whether there is something to sign."""
        ago = self.signed_seconds_ago
        return self.size > 0 and (self.size != self.known or ago is None or ago >= REFRESH_SECONDS)


class Cosigner:
    """Gets the signatures of one witness.

    Args:
        database: where the log is.
        client: of the witness.
        witnesses: the public keys of all witnesses, to count who has signed a checkpoint.
        every_seconds: between two questions at the least.
        log: where trouble is told.
        metrics: where ages and failures are shown.
    """

    def __init__(
        self,
        database: Database,
        client: WitnessClient,
        *,
        witnesses: Sequence[Verifier],
        every_seconds: float,
        log: Log | None = None,
        metrics: Registry | None = None,
    ) -> None:
        self._database = database
        self._client = client
        self._key = str(client.witness.key)
        self._witnesses = tuple(witnesses)
        self._every = every_seconds
        self._log = log
        self._store = LogStore()
        name = client.witness.key.name
        registry = metrics if metrics is not None else Registry(None)
        self._failures = registry.counter(
            "workhorse_audit_witness_failures_total", "Questions that a witness did not sign after.", ("witness",)
        ).labels(name)
        self._age = registry.gauge(
            "workhorse_audit_cosignature_age_seconds", "Since a witness signed last, by its own clock.", ("witness",)
        ).labels(name)

    def __repr__(self) -> str:
        return f"<Cosigner of {self._client.witness.key.name}>"

    async def run(self) -> None:
        """Ask until cancelled. Whatever goes wrong is told, and tried again after a pause."""
        while True:
            try:
                await self.turn()
            except Exception as error:  # noqa: BLE001 - the database is away, or a row is none: the next look sees
                self._tell("error", "audit.cosigning_failed", error)
            await asyncio.sleep(min(self._every, LOOK_SECONDS))

    async def turn(self) -> bool:
        """Ask once, if the witness is due. Returns whether it signed."""
        claim = await self._claim()
        if claim is None:
            return False
        if not claim.is_due:
            await self._set("witness_waits", self._every)
            return False
        try:
            note = await self._asked(claim)
            await self._keep(claim.size, note)
        except (WitnessFault, AuditFault) as error:
            pause = min(RETRY_SECONDS * 2 ** min(claim.failures, MAX_DOUBLINGS), MAX_RETRY_SECONDS)
            await self._set("witness_failed", str(error)[:500], max(pause, self._every))
            self._failures.add()
            level: Level = "error" if isinstance(error, WitnessWrong | AuditFault) else "warning"
            self._tell(level, "audit.witness_did_not_sign", error)
            return False
        return True

    async def _claim(self) -> _Claim | None:
        store = self._store
        async with Unit(self._database, deadline_seconds=UNIT_SECONDS) as work:
            await work.execute(store.queries["know_witness"], (self._key,))
            claimed = await store.rows(work, "claim_witness", CLAIM_SECONDS, self._key)
            last = await store.rows(work, "last_checkpoint", 0)
        if not claimed:
            return None
        known, failures, ago = claimed[0]
        self._age.set(-1.0 if ago is None else ago)
        if not last:
            return _Claim(Note("nothing\n"), 0, known, failures, ago)
        return _Claim(Note.parse(last[0][1].encode()), last[0][0], known, failures, ago)

    async def _asked(self, claim: _Claim) -> Note:
        """The checkpoint with the signature; asked again once if the witness stands elsewhere."""
        try:
            return await self._client.ask(await self._request(claim.note, claim.size, claim.known))
        except WitnessElsewhere as error:
            elsewhere = error.size
        if elsewhere == claim.known:
            raise WitnessWrong(
                f"it has signed {elsewhere} entries with another root than this log has: one of the two was forked"
            )
        if elsewhere < claim.known:
            self._tell("error", "audit.witness_forgot", WitnessWrong(f"it signed {claim.known}, and knows {elsewhere}"))
        try:
            return await self._client.ask(await self._request(claim.note, claim.size, elsewhere))
        except WitnessElsewhere as error:
            raise WitnessWrong(f"it says that it has signed {elsewhere} entries, and then {error.size}") from error

    async def _request(self, note: Note, size: int, old: int) -> AddCheckpoint:
        if old > size:
            raise WitnessWrong(
                f"it has signed {old} entries of this log, and the last checkpoint here has {size}: this database was"
                " set back or is another one, if the witness tells the truth"
            )
        proof: list[bytes] = []
        if 0 < old < size:
            unit = Unit(self._database, isolation="repeatable read", read_only=True, deadline_seconds=UNIT_SECONDS)
            async with unit as work:
                proof = await self._store.consistency(work, old, size)
        return AddCheckpoint(old_size=old, proof=tuple(proof), note=note)

    async def _keep(self, size: int, note: Note) -> None:
        """Put the signature beside those that the checkpoint has by now."""
        key = self._client.witness.key
        signature = note.signed_by([key])[key]
        seconds = signed_at(signature.value)
        async with Unit(self._database, deadline_seconds=UNIT_SECONDS) as work:
            rows = await self._store.rows(work, "hold_checkpoint", size)
            if rows:  # else it was thinned out meanwhile
                kept = Note.parse(rows[0][0].encode())
                if kept.text != note.text:
                    raise WitnessWrong(f"the checkpoint of {size} entries was changed while the witness signed it")
                kept = kept.adding([signature])
                count = len({one.public_key for one in kept.signed_by(self._witnesses)})
                await work.execute(self._store.queries["cosign"], (kept.encode().decode(), count, size))
            await work.execute(self._store.queries["witness_signed"], (size, seconds, self._every, self._key))
        self._age.set(max(0.0, time.time() - seconds))

    async def _set(self, query: str, *params: object) -> None:
        async with Unit(self._database, deadline_seconds=UNIT_SECONDS) as work:
            await work.execute(self._store.queries[query], (*params, self._key))

    def _tell(self, level: Level, event: str, error: BaseException) -> None:
        if self._log is not None:
            self._log.event(level, event, witness=self._client.witness.key.name, exception=error)
