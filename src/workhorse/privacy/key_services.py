"""The keys of subjects wrapped by a key management service, which never gives its own key away.

Whoever has a dump of the database, this process' memory of yesterday and its environment still needs the service, which
decides by its own rules who may ask, and writes down that they did.
"""

import asyncio
import importlib
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import Any, Final

from workhorse.errors import PROBLEM_PREFIX, LibraryMissing, Problem, SettingsError
from workhorse.privacy.keys import KeyWrapper
from workhorse.privacy.sealing import CannotOpen

__all__ = ["AwsKms", "KeyServiceUnavailable"]

LOG: Final = logging.getLogger(__name__)
CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 5
ATTEMPTS: Final = 3
MAX_AT_ONCE: Final = 16
"""Calls that a process has under way, each in a thread."""
ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+", re.ASCII)
# It was wrapped by another key, or for another subject, or changed; or the key was destroyed for good.
NEVER_OPENS: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException", "NotFoundException"})


class KeyServiceUnavailable(Problem):
    """The key management service did not answer in time, or refused. Nothing was written."""

    status = 503
    type = PROBLEM_PREFIX + "key-service-unavailable"
    title = "The key of this person cannot be reached"

    def __init__(self, detail: str = "Nothing was written. Send the request again later.") -> None:
        super().__init__(detail, headers=((b"retry-after", b"5"),))


class AwsKms:
    """Wraps keys by a symmetric key of AWS' Key Management Service (`Encrypt` and `Decrypt`).

    What was wrapped for one subject opens for no other one: a digest of the subject is the encryption context, which
    AWS writes into its own trail, so it must not be the subject itself. When AWS rotates the key's material, nothing is
    to be done here. To move to another key, name that one, have `SubjectKeys.rewrap` wrap all anew, and only then take
    away the right to `Decrypt` with the old one.

    Args:
        key: the ARN of the key that wraps from now on. Others, which wrapped before, are asked for by the ARN that is
            stored beside what they wrapped.
        before: unwraps what no key of AWS wrapped, until all is wrapped anew.
        client: a KMS client of boto3; by default one with deadlines, of the region in the ARN, whose credentials and
            endpoint come from where AWS' own tools take them.

    Raises:
        SettingsError: it is no ARN of a key. An alias may name another key tomorrow.
        LibraryMissing: boto3 is not installed.
    """

    def __init__(self, key: str, *, before: KeyWrapper | None = None, client: Any = None) -> None:
        if not ARN.fullmatch(key):
            raise SettingsError(
                f"{key!r} is not the ARN of a key, such as arn:aws:kms:eu-central-1:111122223333:key/1234abcd-...;"
                " an alias may name another key tomorrow, so name the key that it stands for"
            )
        self._key = key
        self._before = before
        self._client = client if client is not None else _client(key)
        self._errors = _errors()
        self._threads = ThreadPoolExecutor(MAX_AT_ONCE, thread_name_prefix="workhorse-kms")

    @property
    def current(self) -> str:
        """The ARN."""
        return self._key

    async def wrap(self, key: bytes, subject: str) -> bytes:
        """Wrap a subject's key.

        Raises:
            KeyServiceUnavailable: the service did not do it.
        """
        answer = await self._ask("encrypt", self._key, Plaintext=key, EncryptionContext=_bound_to(subject))
        return bytes(answer["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, by: str, subject: str) -> bytes:
        """Unwrap it, by the key that wrapped it and no other.

        Raises:
            CannotOpen: this was wrapped by another key, or for another subject, or changed, or the key is gone.
            KeyServiceUnavailable: the service did not do it.
        """
        if not ARN.fullmatch(by):
            if self._before is None:
                raise CannotOpen(f"the key {by!r} that wrapped this one is none of AWS' Key Management Service")
            return await self._before.unwrap(wrapped, by, subject)
        answer = await self._ask("decrypt", by, CiphertextBlob=wrapped, EncryptionContext=_bound_to(subject))
        return bytes(answer["Plaintext"])

    async def _ask(self, verb: str, key: str, **arguments: Any) -> Any:
        call = partial(getattr(self._client, verb), KeyId=key, **arguments)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except self._errors as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
            if code in NEVER_OPENS and verb == "decrypt":
                raise CannotOpen(f"{key} does not open this: {code}") from error
            LOG.error("%s did not %s a person's key: %s", key, verb, error)  # noqa: TRY400 - it says all there is
            raise KeyServiceUnavailable from error


def _bound_to(subject: str) -> dict[str, str]:
    return {"workhorse-subject": sha256(b"workhorse subject key\0" + subject.encode()).hexdigest()}


def _client(key: str) -> Any:
    try:
        # Only here: they take long to import, and have no types.
        session = importlib.import_module("boto3").session.Session()
        config = importlib.import_module("botocore.config").Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=MAX_AT_ONCE,
        )
    except ModuleNotFoundError as error:
        raise LibraryMissing("AwsKms needs the package boto3: pip install 'workhorse[aws]'") from error
    return session.client("kms", region_name=key.split(":")[3], config=config)


def _errors() -> tuple[type[Exception], ...]:
    exceptions = importlib.import_module("botocore.exceptions")
    return (exceptions.ClientError, exceptions.BotoCoreError, OSError)
