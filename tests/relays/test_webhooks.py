"""A webhook reaches its endpoint at least once, signed, each time with the same id, whatever fails in between."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.feeds.test_reader import emit
from tests.relays.receiver import receiving
from tests.units.databases import Sql, on
from workhorse.errors import SettingsError
from workhorse.feeds import FeedReader
from workhorse.relays import SignatureWrong, Webhook, verify

SECRET, FORMER = "whsec_" + "A" * 40, "whsec_" + "B" * 40
SOON = [0.05] * 5


def a_webhook(url: str, **more: Any) -> Webhook:
    options: dict[str, Any] = {
        "secrets": [SECRET],
        "insecure_http": True,
        "insecure_networks": ["127.0.0.0/8"],
        "retry_seconds": SOON,
        "deadline_seconds": 5.0,
        **more,
    }
    return Webhook("billing", url, **options)


async def noted(database: Any, webhook: Webhook, *subjects: str) -> None:
    """Emit an event for each subject, and note them as deliveries."""
    reader = FeedReader(database, webhook.feed)
    await reader.turn()
    await emit(database, *subjects)
    await reader.drain()
    await reader.drain()


def test_a_message_is_signed_and_carries_its_events_id(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with receiving() as receiver:
            webhook = a_webhook(receiver.url, secrets=[SECRET, FORMER])
            await noted(database, webhook, "1")
            async with webhook.running(database):
                await receiver.until(1)
                await asyncio.sleep(0.1)
            ((headers, body),) = receiver.got
        ((event_id,),) = sql("SELECT id::text FROM workhorse.events")
        for secret in (SECRET, FORMER):
            assert verify([secret], headers, body, now=time.time()) == event_id
        with pytest.raises(SignatureWrong):
            verify([SECRET], headers, body + b" ", now=time.time())
        with pytest.raises(SignatureWrong, match="within 300 s"):
            verify([SECRET], headers, body, now=time.time() + 1000)
        message = json.loads(body)
        assert (message["type"], message["subject"], message["data"], message["id"]) == (
            "note.taken",
            "1",
            {},
            event_id,
        )
        assert headers["host"] == receiver.url.split("/")[2]
        assert (await webhook.standing(database)).waiting == 0

    asyncio.run(on("pool", database_url, script, size=4))


@pytest.mark.parametrize("what", ["500 Oh", "drop", "302 Found", "hang"])
def test_what_is_not_taken_comes_again_with_the_same_id(what: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with receiving(lambda number: what if number < 2 else "204 No Content") as receiver:
            webhook = a_webhook(receiver.url, deadline_seconds=1.0)
            await noted(database, webhook, "1")
            async with webhook.running(database):
                await receiver.until(3)
                await asyncio.sleep(0.1)
        assert len(set(receiver.ids)) == 1
        assert len(receiver.got) == 3
        assert await webhook.standing(database) == ("", 0, 0, "")

    asyncio.run(on("pool", database_url, script, size=4))


def test_after_its_last_attempt_a_message_is_a_dead_letter_and_passes_nothing_by(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        bad = {"refuses": True}

        def behave(number: int) -> str:
            subject = json.loads(receiver.got[number][1])["subject"]
            return "500 Oh" if subject == "bad" and bad["refuses"] else "200 OK"

        async with receiving(behave) as receiver:
            webhook = a_webhook(receiver.url, retry_seconds=[0.05])
            await noted(database, webhook, "bad", "good")
            async with webhook.running(database):
                await receiver.until(3)
                await asyncio.sleep(0.2)
                assert await webhook.standing(database) == ("", 0, 1, "the reply was 500")
                bad["refuses"] = False
                assert await webhook.revive(database) == 1
                await receiver.until(4)
                await asyncio.sleep(0.1)
                assert await webhook.standing(database) == ("", 0, 0, "")

    asyncio.run(on("pool", database_url, script, size=4))


def test_in_order_nothing_passes_by_what_was_not_taken(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with receiving(lambda number: "500 Oh" if number in {1, 2} else "200 OK") as receiver:
            webhook = a_webhook(receiver.url, order="endpoint")
            await noted(database, webhook, *"12345")
            async with webhook.running(database), webhook.running(database):
                await receiver.until(7)
        subjects = [json.loads(body)["subject"] for _, body in receiver.got]
        assert subjects == ["1", "2", "2", "2", "3", "4", "5"]

    asyncio.run(on("pool", database_url, script, size=4))


def test_order_by_subject_holds_up_only_that_subject(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        def behave(number: int) -> str:
            return "500 Oh" if json.loads(receiver.got[number][1])["subject"] == "a" else "200 OK"

        async with receiving(behave) as receiver:
            webhook = a_webhook(receiver.url, order="subject", retry_seconds=[0.05])
            await noted(database, webhook, "a", "b", "a", "c")
            async with webhook.running(database):
                await receiver.until(4)
                await asyncio.sleep(0.3)
            standing = await webhook.standing(database)
            assert standing.disabled == "after 2 attempts the reply was 500"
            assert (standing.waiting, standing.dead) == (2, 0)
            receiver.behave = lambda _: "200 OK"
            await webhook.enable(database)
            async with webhook.running(database):
                await receiver.until(6)
        assert [json.loads(body)["subject"] for _, body in receiver.got[-2:]] == ["a", "a"]

    asyncio.run(on("pool", database_url, script, size=4))


def test_an_endpoint_that_is_gone_is_sent_nothing_more(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with receiving(lambda _: "410 Gone") as receiver:
            webhook = a_webhook(receiver.url, concurrency=1)
            await noted(database, webhook, "1", "2", "3")
            async with webhook.running(database):
                await receiver.until(1)
                await asyncio.sleep(0.3)
            assert len(receiver.got) == 1
            assert (await webhook.standing(database)).disabled == "after 1 attempts the reply was 410"

    asyncio.run(on("pool", database_url, script, size=4))


def test_an_address_that_is_not_public_is_not_connected_to(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with receiving() as receiver:
            webhook = a_webhook(receiver.url.replace("127.0.0.1", "localhost"), insecure_networks=(), retry_seconds=[])
            await noted(database, webhook, "1")
            async with webhook.running(database):
                await asyncio.sleep(0.4)
            standing = await webhook.standing(database)
            assert (standing.dead, receiver.got) == (1, [])
            assert "not of the public internet" in standing.last_error

    asyncio.run(on("pool", database_url, script, size=4))


def test_what_a_killed_process_had_under_way_is_delivered_by_another(database_url: str, tmp_path: Path) -> None:
    program = tmp_path / "relay.py"
    program.write_text(
        "import asyncio, sys\n"
        "from tests.relays.test_webhooks import a_webhook\n"
        "from tests.units.databases import open_database\n"
        "async def main():\n"
        "    async with open_database('pool', sys.argv[1], size=4) as database:\n"
        "        async with a_webhook(sys.argv[2], deadline_seconds=20).running(database):\n"
        "            await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )

    async def script(database: Any, sql: Sql) -> None:
        async with receiving(lambda number: "hang" if number == 0 else "200 OK") as receiver:
            webhook = a_webhook(receiver.url, order="endpoint")
            await noted(database, webhook, "1", "2")
            root = str(Path(__file__).parents[2])
            path = os.pathsep.join([str(Path(root) / "src"), root])
            process = subprocess.Popen(
                [sys.executable, str(program), database_url, receiver.url], env={**os.environ, "PYTHONPATH": path}
            )
            try:
                await receiver.until(1, seconds=30)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
            # It is put off until the dead process's attempt must have ended; nobody wants to wait for that here.
            sql("UPDATE workhorse.webhook_deliveries SET due_at = now()")
            async with webhook.running(database):
                await receiver.until(3)
                await asyncio.sleep(0.1)
            assert receiver.ids[0] == receiver.ids[1]
            assert [json.loads(body)["subject"] for _, body in receiver.got] == ["1", "1", "2"]
            assert (await webhook.standing(database)).waiting == 0

    asyncio.run(on("pool", database_url, script, size=4))


@pytest.mark.parametrize(
    "values",
    [
        {"url": "http://a.example/"},
        {"url": "https://user@a.example/"},
        {"url": "https://a.example/#b"},
        {"url": "ftp://a.example/"},
        {"url": "https://a.example:x/"},
        {"secrets": []},
        {"secrets": SECRET},
        {"secrets": ["whsec_AAAA"]},
        {"secrets": ["plain"]},
        {"order": "all"},
        {"retry_seconds": [0]},
        {"concurrency": 0},
        {"insecure_networks": ["10.0.0.1/8"]},
    ],
    ids=str,
)
def test_a_webhook_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    options: dict[str, Any] = {"url": "https://a.example/", "secrets": [SECRET], **values}
    with pytest.raises(SettingsError):
        Webhook("billing", **options)
