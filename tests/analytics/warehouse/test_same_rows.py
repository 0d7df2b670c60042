"""The contract: whatever was committed, the engine tells what the measures beside the journal tell."""

import asyncio
import random
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics.measures.kit import REVENUE, drain, post
from tests.analytics.warehouse.kit import MEASURES, TRANSFERS, embedded, opened, told
from workhorse.analytics.measures import Measure
from workhorse.analytics.tables import TooManyRows
from workhorse.analytics.warehouse import Column, CopiedTable, NotExact, Warehouse
from workhorse.contracts.frames import QueryFailed
from workhorse.contracts.warehouse import CopyBehind, JournalSetBack
from workhorse.embedded import drop_database, fresh_database
from workhorse.errors import DatabaseUnavailable, SettingsError
from workhorse.feeds import FeedReader
from workhorse.journal import EventType, EventTypes
from workhorse.privacy import PERSONAL, LocalKeys, SubjectKeys
from workhorse.privacy.events import EventSealing
from workhorse.state.warehouses.opening import open_engine
from workhorse.telemetry.metrics import Registry
from workhorse.units import Unit

KEY = b"k" * 32
DIRECT = b"""
    SELECT count(*), sum((data->>'amount')::numeric), min((data->>'amount')::numeric), max((data->>'amount')::numeric)
      FROM workhorse.events WHERE type = 'transfer.posted'
"""
ODD: list[Any] = ["12,50", "", None, True, [1], {"a": 1}, "1e9", "NaN", "9" * 200]
MOMENT = datetime(2026, 3, 1, 10, 0, 59, 999_999, tzinfo=UTC)


class Called(msgspec.Struct):
    phone: Annotated[str, PERSONAL]
    ward: str


CALLED = EventType("patient.called", Called, person="patient/{subject}")


def test_each_question_has_one_answer(database_url: str, engine_url: str) -> None:
    questions: list[dict[str, Any]] = [
        {},
        {"by": []},
        {"by": ["currency"], "window": "1 day"},
        {"by": ["debtor.country"], "window": "366 days"},
        {"only": {"currency": "EUR"}},
        {"only": {"currency": None}},
        {"only": {"debtor.country": 49, "currency": "EUR"}, "by": []},
        {"only": {"debtor.country": True}},
        {"only": {"debtor.country": "DE"}, "window": "5 minutes"},
        {"since": MOMENT, "by": []},
        {"until": MOMENT, "by": []},
        {"since": MOMENT.replace(second=0, microsecond=0), "until": MOMENT, "window": "3 minutes"},
        {"at_most": 1, "by": []},
    ]

    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await post(database, "0.10", "0.20", 7, "1.50", "00.5", "-.5", "+3.")
            await post(database, "100000000000.01", 0.1, 12345678901234567890, currency="JPY", country="JP")
            await post(database, *ODD, country=49)
            await post(database, 3, country=49.0)
            await post(database, 3, currency=None, country=True)
            await post(database, 3, currency="€uro'\"\\ \n", country={"b": [1, None]})
            with psycopg.connect(database_url, autocommit=True) as sql:
                for at in (
                    MOMENT,
                    MOMENT + timedelta(microseconds=1),
                    MOMENT - timedelta(days=1),
                    MOMENT.replace(1970),
                ):
                    sql.execute(
                        "INSERT INTO workhorse.events (id, occurred_at, type, subject, data)"
                        " VALUES (gen_random_uuid(), %s, 'transfer.posted', 't', '{\"amount\": 1}')",
                        (at,),
                    )
            await drain(database, MEASURES, warehouse)
            for asked in questions:
                here, there = await embedded(database, **asked), await warehouse.read("revenue", **asked)
                assert here, asked
                assert told(there) == told(here), asked
                assert [row.starts for row in there] == [row.starts for row in here], asked

    asyncio.run(main())


@pytest.mark.slow
def test_after_any_order_of_commits_aborts_slow_transactions_and_deaths_nothing_differs(
    database_url: str, engine_url: str
) -> None:
    amounts = st.lists(st.decimals(-1000, 1000, places=2), max_size=4)
    steps = st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["commit", "abort"]), amounts),
            st.tuples(
                st.sampled_from(["begin slow", "end slow", "late", "copy", "die before", "die between"]), st.just([])
            ),
        ),
        max_size=14,
    )

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with opened(database_url, engine_url) as (database, warehouse):

            async def play(todo: list[tuple[str, list[Decimal]]]) -> None:
                slow: list[Any] = []
                for step, values in todo:
                    if step == "commit":
                        await post(database, *map(str, values))
                    elif step == "abort":
                        await abort(database, values)
                    elif step == "begin slow":
                        unit = Unit(database)
                        work = await unit.__aenter__()
                        await work.emit("transfer.posted", subject="s", data={"amount": "0.01", "currency": "EUR"})
                        await work.execute("SELECT pg_current_xact_id()")
                        slow.append(unit)
                    elif step == "end slow" and slow:
                        await slow.pop(0).__aexit__(None, None, None)
                    elif step == "late":
                        with psycopg.connect(database_url, autocommit=True) as sql:
                            sql.execute(
                                "INSERT INTO workhorse.events (id, occurred_at, type, subject, data) VALUES"
                                " (gen_random_uuid(), '2020-01-01Z', 'transfer.posted', 't', '{\"amount\": \"0.03\"}')"
                            )
                    elif step == "copy":
                        await drain(database, warehouse)
                    elif step in {"die before", "die between"}:
                        await die(database, warehouse, after=step == "die between")
                for unit in slow:
                    await unit.__aexit__(None, None, None)
                await same(database_url, database, warehouse)

            @given(steps)
            @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
            def law(todo: list[tuple[str, list[Decimal]]]) -> None:
                asyncio.run_coroutine_threadsafe(play(todo), loop).result(60)

            await asyncio.to_thread(law)

    asyncio.run(main())


@pytest.mark.slow
def test_a_copier_that_is_killed_loses_and_doubles_nothing(database_url: str, engine_url: str) -> None:
    async def write(turn: int) -> None:
        async with opened(database_url, engine_url) as (database, _):
            for number in range(20):
                await post(database, f"{turn}.{number:02}")

    async def finish() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await same(database_url, database, warehouse)

    command = [sys.executable, "-m", "tests.analytics.warehouse.copier_process", database_url, engine_url]
    for turn, when in enumerate((0, 1, 2)):
        asyncio.run(write(turn))
        assert subprocess.run([*command, str(when)], check=False, timeout=60, capture_output=True).returncode == -9
    chance = random.Random()  # noqa: S311 - it picks a moment
    for turn in range(3, 5):
        asyncio.run(write(turn))
        with subprocess.Popen([*command, "-1"], stdout=subprocess.PIPE) as copier:
            assert copier.stdout is not None
            for _ in range(chance.randint(1, 3)):
                copier.stdout.readline()
            time.sleep(chance.random() * 0.02)
            copier.kill()
    asyncio.run(finish())


def test_a_page_that_comes_again_is_there_once(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await post(database, 1, 2, 3)
            await die(database, warehouse, after=True)
            assert [row.events for row in await warehouse.read("revenue", window="366 days")] == [3]
            await post(database, 4)
            await same(database_url, database, warehouse)

    asyncio.run(main())


def test_a_page_that_comes_again_has_no_event_that_committed_in_between(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            unit = Unit(database)
            work = await unit.__aenter__()
            await work.emit("transfer.posted", subject="slow", data={"amount": "0.01", "currency": "EUR"})
            await work.execute("SELECT pg_current_xact_id()")
            await post(database, 1)
            await die(database, warehouse, after=True)
            await unit.__aexit__(None, None, None)
            await same(database_url, database, warehouse)

    asyncio.run(main())


def test_the_first_to_ask_and_to_copy_may_come_at_once(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await post(database, 1, 2)
            await asyncio.gather(*(warehouse.read("revenue") for _ in range(8)), drain(database, warehouse))
            await same(database_url, database, warehouse)

    asyncio.run(main())


def test_two_processes_that_copy_put_each_event_once(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            (feed,) = warehouse.feeds
            page: list[Any] = []

            async def keep(work: Any, events: Any) -> None:
                page.append(events)
                raise Given

            await post(database, *range(20))
            with suppress(Given):
                await FeedReader(database, replace(feed, handler=keep)).drain()

            async def put() -> None:
                # As one does whose turn is over without its knowing, since its connection to the journal broke.
                async with Unit(database) as work:
                    await feed.handler(work, page[0])

            await asyncio.gather(*(put() for _ in range(4)))
            await same(database_url, database, warehouse)
            await put()
            await same(database_url, database, warehouse)

    asyncio.run(main())


def test_copying_goes_on_after_the_engine_was_away(database_url: str, second_server: Any) -> None:
    url = fresh_database(second_server.database_url)

    async def main() -> None:
        async with opened(database_url, url) as (database, warehouse):
            await post(database, 1)
            await drain(database, warehouse)
            with psycopg.connect(url, autocommit=True) as sql:
                sql.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            await post(database, 2)
            with pytest.raises(DatabaseUnavailable):
                await drain(database, warehouse)
            await same(database_url, database, warehouse)
        async with opened(database_url, url.replace("5432", "1")) as (database, warehouse):
            with pytest.raises(DatabaseUnavailable):
                await warehouse.read("revenue")

    asyncio.run(main())
    drop_database(url)


def test_what_is_sealed_stays_sealed(database_url: str, engine_url: str) -> None:
    keys = SubjectKeys(LocalKeys([KEY]))
    sealing = EventSealing(keys)
    calls = CopiedTable("calls", of="patient.called", columns=(Column("phone", "json", personal=True), Column("ward")))
    # Whoever has not declared the kinds takes it for text.
    texts = CopiedTable("texts", of="patient.called", columns=(Column("phone"),))

    async def main() -> None:
        async with opened(database_url, engine_url) as (database, other):
            async with Unit(database, events=EventTypes([CALLED], sealing=sealing)) as work:
                await work.emit(CALLED, subject="7", data=Called("555-1234", "B"))
            warehouse = Warehouse([calls, texts], engine=other._engine)
            await drain(database, warehouse)
            for query in ("SELECT phone, ward FROM warehouse.calls", "SELECT phone, phone__odd FROM warehouse.texts"):
                (row,) = (await warehouse.arrow(query)).to_pylist()
                assert "$sealed" in str(row)
                assert "555-1234" not in str(row)

    asyncio.run(main())


def test_windows_that_a_measure_keeps_no_more_are_not_told(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            with psycopg.connect(database_url, autocommit=True) as sql:
                for days in (0, 1, 3, 40):
                    sql.execute(
                        "INSERT INTO workhorse.events (id, occurred_at, type, subject, data) VALUES"
                        " (gen_random_uuid(), now() - make_interval(days => %s), 'transfer.posted', 't',"
                        ' \'{"amount": 1, "currency": "EUR"}\')',
                        (days,),
                    )
            await drain(database, MEASURES, warehouse)
            for window, rows in (("1 minute", 2), ("1 hour", 2), ("1 day", 4), ("2 days", None)):
                here = await embedded(database, "kept", window=window)
                assert told(await warehouse.read("kept", window=window)) == told(here)
                assert rows is None or len(here) == rows

    asyncio.run(main())


def test_a_new_column_is_filled_in_old_rows_while_the_old_definition_goes_on(
    database_url: str, engine_url: str
) -> None:
    newer = CopiedTable(
        TRANSFERS.name,
        of=TRANSFERS.of,
        columns=(*TRANSFERS.columns, Column("place", "json", path="debtor.place")),
        subject=True,
    )

    async def main() -> None:
        async with opened(database_url, engine_url) as (database, old):
            await post(database, 1, 2)
            async with Unit(database) as work:
                await work.emit("transfer.posted", subject="x", data={"amount": 4, "debtor": {"place": 7}})
            await drain(database, MEASURES, old)
            # In the same process, since a DuckDB file is open in one.
            wider = Warehouse([newer], measures=[REVENUE], engine=old._engine)
            assert told(await wider.read("revenue")) == told(await embedded(database))
            await post(database, 8)
            await drain(database, MEASURES, wider, old)
            for warehouse in (old, wider):
                assert told(await warehouse.read("revenue")) == told(await embedded(database))
            table = await wider.arrow("SELECT place, count(*) AS n FROM warehouse.transfers GROUP BY place ORDER BY n")
            assert [str(value) for value in table["place"].to_pylist()] == ["7", "None"]
            assert table["n"].to_pylist() == [1, 3]
            subjects = await wider.arrow("SELECT subject FROM warehouse.transfers ORDER BY subject")
            assert subjects.column(0).to_pylist() == ["t", "t", "t", "x"]

    asyncio.run(main())


def test_an_engine_that_was_set_back_is_found_and_copied_anew(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await post(database, 1, 2, 3)
            await drain(database, warehouse)
        other = engine_url.replace("warehouse.duckdb", "other.duckdb")
        if other == engine_url:
            with psycopg.connect(engine_url, autocommit=True) as sql:
                sql.execute("DROP SCHEMA warehouse CASCADE")
        async with opened(database_url, other) as (database, warehouse):
            await post(database, 4)
            with pytest.raises(CopyBehind, match="recopy"):
                await drain(database, warehouse)
            await warehouse.recopy(database, "transfers")
            await same(database_url, database, warehouse)

    asyncio.run(main())


def test_a_journal_that_was_restored_to_an_earlier_time_is_found(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await post(database, 1, 2, 3)
            await drain(database, warehouse)
            with psycopg.connect(database_url, autocommit=True) as sql:
                kept = sql.execute("SELECT seen::text, events FROM workhorse.feeds").fetchall()
                await post(database, 4)
                await drain(database, warehouse)
                # As it was before the fourth, which nobody knows any more; then something else happens.
                sql.execute("DELETE FROM workhorse.events WHERE data->>'amount' = '4'")
                sql.execute("UPDATE workhorse.feeds SET seen = %s::pg_snapshot, events = %s", kept[0])
            await post(database, 5)
            with pytest.raises(JournalSetBack, match="clear=True"):
                await drain(database, warehouse)
            await warehouse.recopy(database, "transfers", clear=True)
            await same(database_url, database, warehouse)

    asyncio.run(main())


def test_what_a_column_cannot_hold_makes_no_figure(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await post(database, 1)
            await post(database, 2, currency=5)
            await drain(database, MEASURES, warehouse)
            with pytest.raises(NotExact, match="1 events"):
                await warehouse.read("revenue")
            # Where the column is not asked for, nothing is wrong.
            assert told(await warehouse.read("revenue", by=[])) == told(await embedded(database, by=[]))
            assert told(await warehouse.read("revenue", only={"currency": "EUR"})) == told(
                await embedded(database, only={"currency": "EUR"})
            )

    asyncio.run(main())


def test_a_number_that_duckdb_cannot_hold_is_kept_as_text_and_makes_no_figure(
    database_url: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with opened(database_url, f"duckdb:{tmp_path}/a.duckdb") as (database, warehouse):
            await post(database, 1)
            await post(database, "1" * 30, "0.0000000001", currency="JPY")
            await drain(database, MEASURES, warehouse)
            with pytest.raises(NotExact, match="2 events"):
                await warehouse.read("revenue")
            only = {"currency": "EUR"}
            assert told(await warehouse.read("revenue", only=only)) == told(await embedded(database, only=only))
            table = await warehouse.arrow("SELECT amount__odd FROM warehouse.transfers ORDER BY 1")
            assert table.column(0).to_pylist() == ["0.0000000001", "1" * 30, None]

    asyncio.run(main())


def test_a_query_of_the_engine_comes_as_arrow_and_is_bounded(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await post(database, "0.10", "0.20", 7)
            await drain(database, warehouse)
            mark = "?" if engine_url.startswith("duckdb") else "%s"
            query = (
                f"SELECT currency, sum(amount)::decimal(20, 2) AS sum FROM warehouse.transfers WHERE currency = {mark}"  # noqa: S608
            )
            table = await warehouse.arrow(f"{query} GROUP BY currency", ["EUR"])
            assert table.to_pylist() == [{"currency": "EUR", "sum": Decimal("7.30")}]
            raw = await warehouse._engine.arrow("SELECT id, currency FROM warehouse.transfers", (), max_rows=10)
            assert raw["currency"].to_pylist() == ["EUR"] * 3
            with pytest.raises(TooManyRows):
                await warehouse.arrow("SELECT id FROM warehouse.transfers", max_rows=2)
            with pytest.raises(QueryFailed):
                await warehouse.arrow("SELECT nothing FROM warehouse.transfers")

    asyncio.run(main())


def test_the_lag_is_told_and_measured(database_url: str, engine_url: str) -> None:
    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            registry = Registry(None)
            warehouse.bind(warehouse._engine, metrics=registry)
            await post(database, 1)
            await drain(database, warehouse)
            async with Unit(database) as work:
                assert await warehouse.lag(work, "transfers") == 0.0
            await post(database, 2)
            await asyncio.sleep(0.05)
            async with Unit(database) as work:
                assert 0.05 <= await warehouse.lag(work, "transfers") < 30
            await drain(database, warehouse)
            async with Unit(database) as work:
                assert await warehouse.lag(work, "transfers") == 0.0
            assert registry.total("workhorse_warehouse_lag_seconds", table="transfers") == 2
            registry.close()

    asyncio.run(main())


def test_a_column_of_another_kind_is_refused(database_url: str, engine_url: str) -> None:
    changed = CopiedTable("transfers", of="transfer.posted", columns=(Column("amount", "json"),))

    async def main() -> None:
        async with opened(database_url, engine_url) as (database, warehouse):
            await post(database, 1)
            await drain(database, warehouse)
            with pytest.raises(SettingsError, match="another name"):
                await drain(database, Warehouse([changed], engine=warehouse._engine))
            with pytest.raises(SettingsError, match="no table"):
                Warehouse([changed], measures=[Measure("m", of="transfer.posted", sum="amount")])

    asyncio.run(main())


def test_an_engine_of_no_known_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="'mysql'"):
        open_engine("mysql://somewhere")


class Given(Exception):
    """Given up."""


async def abort(database: Any, amounts: list[Decimal]) -> None:
    with suppress(Given):
        async with Unit(database) as work:
            for amount in amounts:
                await work.emit("transfer.posted", subject="t", data={"amount": str(amount), "currency": "EUR"})
            raise Given


async def die(database: Any, warehouse: Warehouse, *, after: bool) -> None:
    """The copying ends before or after the engine's commit, and before that of the journal's database."""
    (feed,) = warehouse.feeds

    async def dying(work: Any, events: Any) -> None:
        if after:
            await feed.handler(work, events)
        raise Given

    with suppress(Given):
        await FeedReader(database, replace(feed, handler=dying)).drain()


async def same(database_url: str, database: Any, warehouse: Warehouse) -> None:
    """The engine, the measures and the journal itself tell the same."""
    await drain(database, MEASURES, warehouse)
    assert told(await warehouse.read("revenue")) == told(await embedded(database))
    found = await warehouse.read("revenue", by=[], window="1 minute")
    with psycopg.connect(database_url) as sql:
        events, total, least, most = sql.execute(DIRECT).fetchall()[0]
    assert sum(row.events for row in found) == events
    if events:
        assert sum(row.sum for row in found if row.sum is not None) == total
        assert min(row.min for row in found if row.min is not None) == least
        assert max(row.max for row in found if row.max is not None) == most
