"""Keys of subjects wrapped by a key management service, on a real server that speaks AWS' protocol."""

import asyncio
from collections.abc import Iterator
from secrets import token_bytes
from typing import Any

import pytest
from botocore.stub import Stubber

from tests.aws import aws_server, point_at
from tests.privacy.test_subjects import opened, run, sealed_phone
from tests.units.databases import Sql
from workhorse.errors import SettingsError
from workhorse.privacy import AwsKms, CannotOpen, KeyServiceUnavailable, LocalKeys, SubjectKeys
from workhorse.units import Unit

REGION = "eu-central-1"
NOWHERE = f"arn:aws:kms:{REGION}:123456789012:key/00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with aws_server() as url:
        yield url


@pytest.fixture
def kms(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client, as an administrator has one."""
    point_at(server, monkeypatch)
    return AwsKms(NOWHERE)._client


def a_key(kms: Any) -> str:
    arn: str = kms.create_key()["KeyMetadata"]["Arn"]
    return arn


def test_what_is_sealed_under_a_wrapped_key_is_opened_by_another_process(kms: Any, database_url: str) -> None:
    key = a_key(kms)

    async def script(database: Any, sql: Sql) -> None:
        sealed = await sealed_phone(database, SubjectKeys(AwsKms(key)))
        assert sql("SELECT wrapped_by FROM workhorse.subject_keys") == [(key,)]
        assert await opened(database, SubjectKeys(AwsKms(key)), sealed) == "555-1234"
        sql("UPDATE workhorse.subject_keys SET subject = 'patient/2'")
        with pytest.raises(CannotOpen, match="InvalidCiphertextException"):  # moved to somebody else's row
            await opened(database, SubjectKeys(AwsKms(key)), sealed, "patient/2")

    run(database_url, script)


def test_keys_move_to_the_service_and_from_one_of_its_keys_to_the_next(kms: Any, database_url: str) -> None:
    old, new = a_key(kms), a_key(kms)

    async def script(database: Any, sql: Sql) -> None:
        local = LocalKeys([token_bytes(32)])
        sealed = await sealed_phone(database, SubjectKeys(local))
        keys = SubjectKeys(AwsKms(old, before=local))
        assert await opened(database, keys, sealed) == "555-1234"
        async with Unit(database) as work:
            assert await keys.rewrap(work) == 1
        keys = SubjectKeys(AwsKms(new))
        assert await opened(database, SubjectKeys(AwsKms(new)), sealed) == "555-1234", "the old one still opens"
        async with Unit(database) as work:
            assert await keys.rewrap(work) == 1
        assert sql("SELECT wrapped_by FROM workhorse.subject_keys") == [(new,)]
        kms.schedule_key_deletion(KeyId=old.rpartition("/")[2], PendingWindowInDays=7)
        assert await opened(database, SubjectKeys(AwsKms(new)), sealed) == "555-1234"

    run(database_url, script)


def test_what_is_changed_or_was_wrapped_elsewhere_does_not_open(kms: Any) -> None:
    async def main() -> None:
        wrapper = AwsKms(a_key(kms))
        wrapped = await wrapper.wrap(token_bytes(32), "patient/1")
        with pytest.raises(CannotOpen):
            await wrapper.unwrap(wrapped[:-1], wrapper.current, "patient/1")
        with pytest.raises(CannotOpen, match="NotFoundException"):
            await wrapper.unwrap(wrapped, NOWHERE, "patient/1")
        local = LocalKeys([token_bytes(32)])
        with pytest.raises(CannotOpen, match="none of AWS"):
            await wrapper.unwrap(wrapped, local.current, "patient/1")

    asyncio.run(main())


def test_the_subject_does_not_stand_in_the_trail_of_the_service() -> None:
    asked: list[dict[str, Any]] = []

    class Client:
        """Keeps what the service would write down."""

        def encrypt(self, **arguments: Any) -> Any:
            asked.append(arguments)
            return {"CiphertextBlob": b"wrapped"}

    asyncio.run(AwsKms(NOWHERE, client=Client()).wrap(token_bytes(32), "patient/MR-1001"))
    assert "MR-1001" not in repr(asked)
    assert len(asked[0]["EncryptionContext"]["workhorse-subject"]) == 64


def test_a_service_that_refuses_or_is_away_is_a_503_and_nothing_is_written(
    kms: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = a_key(kms)

    async def script(database: Any, sql: Sql) -> None:
        with pytest.raises(KeyServiceUnavailable):
            await sealed_phone(database, SubjectKeys(AwsKms(NOWHERE)))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(KeyServiceUnavailable) as raised:
            await sealed_phone(database, SubjectKeys(AwsKms(key)))
        assert raised.value.status == 503
        assert sql("SELECT count(*) FROM workhorse.subject_keys") == [(0,)]

    run(database_url, script)


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        ("IncorrectKeyException", CannotOpen),
        ("DisabledException", KeyServiceUnavailable),
        ("KMSInvalidStateException", KeyServiceUnavailable),
        ("AccessDeniedException", KeyServiceUnavailable),
        ("ThrottlingException", KeyServiceUnavailable),
    ],
)
def test_what_may_open_tomorrow_is_told_from_what_never_will(kms: Any, code: str, raised: type[Exception]) -> None:
    with Stubber(kms) as answers:  # moto's server knows none of these
        answers.add_client_error("decrypt", code)
        with pytest.raises(raised):
            asyncio.run(AwsKms(NOWHERE, client=kms).unwrap(b"wrapped", NOWHERE, "patient/1"))


@pytest.mark.parametrize(
    "name", ["", "alias/patients", "1234abcd", f"{NOWHERE}\n", NOWHERE.replace(":key/", ":alias/")]
)
def test_what_may_name_another_key_tomorrow_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="ARN"):
        AwsKms(name)
