"""The audit log as an operator sets it up: settings, a worker that seals, and the verbs beside the database."""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.kit import LOG, ORIGIN
from tests.sealer.kit import Sql, emit, on_log
from workhorse.cli import audit
from workhorse.errors import SettingsError
from workhorse.sealer.hosting import key_provider, sealing
from workhorse.settings import Settings, load_settings
from workhorse.settings.production import unsafe_settings

Typed = Callable[..., int]


@pytest.fixture
def typed(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        parser = argparse.ArgumentParser()
        audit.configure(parser)
        return audit.run(parser.parse_args(words))

    return run


def set_up(tmp_path: Path, database_url: str, **more: object) -> Settings:
    return load_settings(
        tmp_path, database={"url": database_url}, audit={"origin": ORIGIN, "key": LOG.reveal(), **more}
    )


def test_what_a_worker_seals_is_exported_proved_and_verified_by_typing(
    typed: Typed, database_url: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    settings = set_up(tmp_path, database_url, anchor_file="anchors/log", sign_every_seconds=0)

    async def script(database: object, sql: Sql) -> str:
        async with sealing(settings, database):  # type: ignore[arg-type]
            await emit(database, 40)
            async with asyncio.timeout(30):
                while sql("SELECT max(size) FROM workhorse.audit_checkpoints") != [(41,)]:
                    await asyncio.sleep(0.05)
        ((event_id,),) = sql("SELECT id FROM workhorse.events WHERE subject = 'account:7'")
        return str(event_id)

    event_id = on_log(database_url, script)
    key = ["--log-key", str(LOG.verifier)]
    assert typed("status") == 0
    assert b"sealed      41 entries" in capfdbinary.readouterr().out
    assert typed("export", "given") == 0
    assert typed("verify", "given", *key) == 0
    assert b"41 agree with their entries" in capfdbinary.readouterr().out
    assert typed("prove", event_id, "--show-data") == 0
    (tmp_path / "proof").write_bytes(capfdbinary.readouterr().out)
    assert typed("check", "proof", *key) == 0
    assert b'{"amount":"7.50"}' in capfdbinary.readouterr().out
    with pytest.raises(SettingsError, match="not empty"):
        typed("export", "given")
    on_log(database_url, edit_an_amount)
    assert typed("export", "later") == 0
    assert typed("verify", "later", *key) == 1
    assert f" {event_id}: the SHA-256 of data is ".encode() in capfdbinary.readouterr().out


async def edit_an_amount(_database: object, sql: Sql) -> None:
    sql("UPDATE workhorse.events SET data = '{\"amount\": \"7000.50\"}' WHERE subject = 'account:7'")


def test_an_operator_is_told_of_a_sealer_that_does_not_run(typed: Typed, database_url: str) -> None:
    async def script(database: object, _sql: Sql) -> None:
        await emit(database, 1)

    on_log(database_url, script)
    assert typed("status") == 1


def test_a_log_without_a_key_does_not_start(tmp_path: Path, database_url: str) -> None:
    with pytest.raises(SettingsError, match="no key is there to sign it"):
        key_provider(set_up(tmp_path, database_url, key=None))
    with pytest.raises(SettingsError, match=r"audit\.key"):
        key_provider(set_up(tmp_path, database_url, key="secret"))


def test_production_refuses_a_key_in_a_file_unless_told(tmp_path: Path, database_url: str) -> None:
    refused = unsafe_settings(set_up(tmp_path, database_url, key=None, key_file="key"))
    assert "audit.key_file" in {one.name for one in refused}
    taken = unsafe_settings(set_up(tmp_path, database_url, key=None, key_file="key", insecure_key_file=True))
    assert "audit.key_file" not in {one.name for one in taken}


def test_no_message_shows_the_key(tmp_path: Path, database_url: str) -> None:
    assert LOG.reveal() not in repr(set_up(tmp_path, database_url))
