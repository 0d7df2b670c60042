"""Runs a sealer as the settings say, beside the feeds of a service."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from workhorse.audit.faults import AuditFault
from workhorse.audit.keys import Signer, Verifier
from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.sealer.anchors import FileAnchor
from workhorse.sealer.keys import KeyFile, KeyProvider, KeyText
from workhorse.sealer.seal import Sealer, SealerOptions
from workhorse.settings import Settings
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry

__all__ = ["key_provider", "sealing"]


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


@asynccontextmanager
async def sealing(
    settings: Settings, database: Database, *, log: Log | None = None, metrics: Registry | None = None
) -> AsyncGenerator[Sealer | None]:
    """Seal during the block, if the settings name a log; at its end a batch that is under way is given up.

    Raises:
        SettingsError: the keys are not there.
    """
    audit = settings.audit
    if not audit.origin:
        yield None
        return
    provider = key_provider(settings)
    await provider.keys()  # what is wrong with them is said at the start
    sealer = Sealer(
        database,
        SealerOptions(origin=audit.origin, batch=audit.batch, sign_every_seconds=audit.sign_every_seconds),
        provider,
        anchors=[] if audit.anchor_file is None else [FileAnchor(settings.project / audit.anchor_file)],
        log=log,
        metrics=metrics,
    )
    task = asyncio.create_task(sealer.run(), name=f"sealer of {audit.origin}")
    try:
        yield sealer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
