"""Runs a sealer as the settings say, beside the feeds of a service."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from workhorse.audit.faults import AuditFault
from workhorse.audit.keys import Signer, Verifier
from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.sealer.anchors import Anchor, FileAnchor, ObjectAnchor
from workhorse.sealer.cosigning import Cosigner
from workhorse.sealer.keys import KeyFile, KeyProvider, KeyText
from workhorse.sealer.objects import StoreUnreachable, open_s3
from workhorse.sealer.publishing import Publisher
from workhorse.sealer.seal import Sealer, SealerOptions
from workhorse.sealer.witnesses import Witness, WitnessClient
from workhorse.settings import Settings
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry

__all__ = ["file_anchor", "key_provider", "s3_anchor", "sealing", "witnesses_of"]


def key_provider(settings: Settings) -> KeyProvider:
    """Where the settings say that the keys are.

    Raises:
        SettingsError: they say nothing, or something that is no key.
    """
    audit = settings.audit
    try:
        older = tuple(Verifier.parse(text) for text in audit.older_keys)
        if audit.key is not None:
            return KeyText(Signer.parse(audit.key.get_secret_value().strip()), older)
    except AuditFault as error:
        raise SettingsError(f"audit.key or audit.older_keys: {error}") from error
    if audit.key_file is None:
        raise SettingsError(
            "audit.origin names a log, and no key is there to sign it: set audit.key, or in development"
            " audit.key_file, to what `workhorse audit key NAME FILE` makes"
        )
    return KeyFile(
        path=settings.project / audit.key_file,
        older=older,
        production=settings.production,
        allow_in_production=audit.insecure_key_file,
    )


def witnesses_of(settings: Settings) -> tuple[Witness, ...]:
    """Whom the settings have sign checkpoints too.

    Raises:
        SettingsError: one is malformed or named twice, or more must sign than there are.
    """
    audit = settings.audit
    witnesses = tuple(Witness.parse(text) for text in audit.witnesses)
    keys = {one.key.public_key for one in witnesses}
    if len(keys) != len(witnesses):
        raise SettingsError("audit.witnesses names a key twice; one key is one witness, under whatever name")
    if audit.witness_quorum > len(keys):
        raise SettingsError(f"audit.witness_quorum is {audit.witness_quorum}, and audit.witnesses has {len(keys)}")
    return witnesses


def file_anchor(settings: Settings) -> FileAnchor | None:
    """The anchor in a file; None: the settings name none."""
    audit = settings.audit
    return None if audit.anchor_file is None else FileAnchor(settings.project / audit.anchor_file)


def s3_anchor(settings: Settings) -> ObjectAnchor | None:
    """The anchor in a bucket; None: the settings name none.

    Raises:
        SettingsError: the address is none, or boto3 is not installed.
    """
    audit = settings.audit
    if not audit.anchor_s3:
        return None
    return ObjectAnchor(open_s3(audit.anchor_s3, days=audit.anchor_s3_days), audit.anchor_s3_every_seconds)


@asynccontextmanager
async def sealing(
    settings: Settings, database: Database, *, log: Log | None = None, metrics: Registry | None = None
) -> AsyncGenerator[Sealer | None]:
    """Seal during the block, if the settings name a log; at its end a batch that is under way is given up.

    Raises:
        SettingsError: the keys are not there, or a witness or a bucket is none that can be used.
    """
    audit = settings.audit
    if not audit.origin:
        yield None
        return
    provider = key_provider(settings)
    await provider.keys()  # what is wrong with them is said at the start
    in_file = file_anchor(settings)
    anchors: list[Anchor] = [] if in_file is None else [in_file]
    publishers: list[Publisher] = []
    if audit.anchor_s3:
        store = await asyncio.to_thread(open_s3, audit.anchor_s3, days=audit.anchor_s3_days)
        try:
            await asyncio.to_thread(store.check)
        except StoreUnreachable as error:  # it may be back soon; until then nothing is signed
            if log is not None:
                log.event("error", "audit.anchor_unreachable", anchor=store.name, exception=error)
        anchors.append(ObjectAnchor(store, audit.anchor_s3_every_seconds))
        if audit.anchor_s3_tiles:
            publishers.append(
                Publisher(database, store, every_seconds=audit.anchor_s3_every_seconds, log=log, metrics=metrics)
            )
    witnesses = witnesses_of(settings)
    cosigners = [
        Cosigner(
            database,
            WitnessClient(one),
            witnesses=[other.key for other in witnesses],
            every_seconds=audit.witness_every_seconds,
            log=log,
            metrics=metrics,
        )
        for one in witnesses
    ]
    sealer = Sealer(
        database,
        SealerOptions(origin=audit.origin, batch=audit.batch, sign_every_seconds=audit.sign_every_seconds),
        provider,
        anchors=anchors,
        log=log,
        metrics=metrics,
    )
    tasks = [asyncio.create_task(sealer.run(), name=f"sealer of {audit.origin}")]
    tasks += [asyncio.create_task(one.run(), name=repr(one)) for one in cosigners]
    tasks += [asyncio.create_task(one.run(), name=repr(one)) for one in publishers]
    try:
        yield sealer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
