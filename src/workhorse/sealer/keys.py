"""Where the log's keys come from: the one that signs now, and the public ones of those that signed before it.

An older key is never needed to sign again, only to know what it signed. A log whose last checkpoint is by a key that is
not among them is not carried on: somebody put another key in its place.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from workhorse.audit.checkpoints import Trust
from workhorse.audit.keys import ED25519, Signer, Verifier
from workhorse.errors import SettingsError

__all__ = ["KeyFile", "KeyProvider", "KeyText", "LogKeys"]

MAX_KEY_FILE: Final = 4_096


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys of a log.

    Args:
        signer: signs from now on.
        older: the public keys of the signers before it.

    Raises:
        SettingsError: a key is one of a witness.
    """

    signer: Signer
    older: tuple[Verifier, ...] = ()

    def __post_init__(self) -> None:
        if self.signer.kind != ED25519 or any(one.kind != ED25519 for one in self.older):
            raise SettingsError("the key of a log is of kind 1; make one with `workhorse audit key NAME FILE`")

    def trust(self, origin: str) -> Trust:
        """Whom the sealer itself believes."""
        return Trust(origin=origin, logs=(self.signer.verifier, *self.older))


class KeyProvider(Protocol):
    """Gives the keys: from a file, a setting, or whatever keeps an operator's secrets."""

    async def keys(self) -> LogKeys:
        """The keys as they are now. Asked at each start of a sealer.

        Raises:
            SettingsError: there are none, or they may not be used here.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeyText:
    """Keys as texts, from a setting that a secret store fills."""

    signer: Signer
    older: tuple[Verifier, ...] = ()

    async def keys(self) -> LogKeys:
        """The keys."""
        return LogKeys(self.signer, self.older)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """A private key in a file, as `workhorse audit key` makes it. Meant for development.

    Args:
        path: of the file, which only its owner may read.
        older: as in `LogKeys`.
        production: whether real data is at stake. A file beside the service is then refused, because whoever takes the
            machine has the key too.
        allow_in_production: take it all the same, as where the file is a mounted secret.
    """

    path: Path
    older: tuple[Verifier, ...] = ()
    production: bool
    allow_in_production: bool = False

    async def keys(self) -> LogKeys:
        """The keys.

        Raises:
            SettingsError: as in `KeyProvider`.
            Malformed: the file holds no private key.
        """
        if self.production and not self.allow_in_production:
            raise SettingsError(
                f"the audit log's key lies in the file {self.path}, which production refuses: give the key from a"
                " secret store, or allow the file if it is a mounted secret"
            )
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(MAX_KEY_FILE).decode("ascii", "replace").strip()
        except OSError as error:
            raise SettingsError(
                f"the audit log's key {self.path} cannot be read: {error.strerror};"
                " make one with `workhorse audit key NAME FILE`"
            ) from error
        if stat.S_IMODE(mode) & 0o077:
            raise SettingsError(f"the audit log's key {self.path} may be read by others: chmod 600 {self.path}")
        return LogKeys(Signer.parse(text), self.older)
