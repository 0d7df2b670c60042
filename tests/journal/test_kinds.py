"""A kind of events has a schema: what is emitted fits it, and what was written before it is still read."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI

from tests.asgi_client import call, running
from tests.units.databases import Sql, on
from workhorse import Service, unit
from workhorse.contracts import Query
from workhorse.errors import SettingsError
from workhorse.feeds import Feed, FeedReader, Recorded
from workhorse.journal import (
    Event,
    EventKindUnknown,
    EventMalformed,
    EventType,
    EventTypes,
    EventVersionUnknown,
)
from workhorse.settings import Settings
from workhorse.units import Unit, Work

SHAPES = Path(__file__).parent / "shapes"


class To(msgspec.Struct):
    name: str
    country: str


class Sent(msgspec.Struct):
    grams: int
    to: To


SENT = EventType(
    "parcel.sent",
    Sent,
    version=3,
    upcasts={
        1: lambda data: {**data, "grams": int(data["grams"])},
        2: lambda data: {**data, "to": {"name": data["to"], "country": "XX"}},
    },
)


@dataclass
class Weighed:
    grams: Decimal


WEIGHED = EventType("parcel.weighed", Weighed)


@dataclass(frozen=True)
class Read:
    type: str
    data: dict[str, Any]


@pytest.mark.parametrize("line", (SHAPES / "parcel.sent.jsonl").read_text().splitlines())
def test_every_shape_that_was_ever_written_is_read_as_the_newest(line: str) -> None:
    assert SENT.read(Read("parcel.sent", json.loads(line))) == Sent(1200, To("emma", "XX"))


def test_the_version_stands_in_the_data_but_for_the_first() -> None:
    sent = Event.of(SENT, subject="1", data=Sent(5, To("a", "b")))
    assert sent.data == b'{"$v":3,"grams":5,"to":{"name":"a","country":"b"}}'
    assert Event.of(WEIGHED, subject="1", data={"grams": Decimal("1.5")}).data == b'{"grams":"1.5"}'


@pytest.mark.parametrize("data", [{"grams": "x"}, {}, None, {"grams": []}])
def test_what_does_not_fit_the_schema_is_not_emitted(data: object) -> None:
    with pytest.raises(EventMalformed, match=r"parcel\.weighed.*grams"):
        Event.of(WEIGHED, subject="1", data=data)


def test_what_newer_code_wrote_is_refused_by_name() -> None:
    with pytest.raises(EventVersionUnknown, match=r"parcel\.sent.*version 4.*1 to 3"):
        SENT.newest({"$v": 4})
    for odd in ("3", 0, True, None):
        with pytest.raises(EventVersionUnknown):
            SENT.newest({"$v": odd})
    with pytest.raises(EventKindUnknown, match=r"parcel\.lost"):
        SENT.read(Read("parcel.lost", {}))
    with pytest.raises(EventMalformed, match="in the journal"):
        WEIGHED.read(Read("parcel.weighed", {"kilos": 1}))


@pytest.mark.parametrize(
    ("version", "upcasts"), [(0, {}), (2, {}), (1, {1: dict}), (3, {1: dict}), (2, {1: dict, 2: dict})]
)
def test_each_older_version_needs_its_upcast(version: int, upcasts: Any) -> None:
    with pytest.raises(SettingsError, match="version"):
        EventType("parcel.sent", Sent, version=version, upcasts=upcasts)


def test_two_kinds_of_one_name_and_a_member_in_the_versions_place_are_refused() -> None:
    with pytest.raises(SettingsError, match="twice"):
        EventTypes([WEIGHED, EventType("parcel.weighed", Sent)])

    class Odd(msgspec.Struct, rename={"version": "$v"}):
        version: int

    with pytest.raises(SettingsError, match=r"\$v"):
        EventType("parcel.odd", Odd)
    with pytest.raises(SettingsError, match="msgspec"):
        EventType("parcel.odd", Read | Weighed)  # type: ignore[arg-type]


def test_a_service_that_declares_its_events_refuses_others(settings: Settings) -> None:
    app = FastAPI()
    told: list[str] = []

    @app.post("/parcels")
    async def parcels(kind: str, grams: str) -> None:
        work = await unit()
        try:
            await work.emit(kind, subject="1", data={"grams": grams})
        except ValueError as error:
            told.append(type(error).__name__)

    async def main() -> None:
        async with running(service := Service(app, events=[WEIGHED], settings=settings)):
            for query in ("kind=parcel.weighed&grams=5", "kind=parcel.weighed&grams=x", "kind=parcel.wieghed&grams=5"):
                assert (await call(service, "POST", f"/parcels?{query}")).status == 200
            rows = await service.rooms.database.run(Query("SELECT type FROM workhorse.events"))
            assert [tuple(row) for row in rows] == [("parcel.weighed",)]

    asyncio.run(main())
    assert told == ["EventMalformed", "EventKindUnknown"]


def test_a_feed_is_given_the_newest_shape_and_stops_at_what_it_cannot_know(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        seen: list[Any] = []

        async def handler(work: Work, events: Sequence[Recorded]) -> None:
            seen.extend((event.data, SENT.read(event).grams) for event in events if event.type == "parcel.sent")

        async with Unit(database) as work:
            await work.emit("parcel.sent", subject="1", data={"grams": "7", "to": "emma"})
            await work.emit("parcel.lost", subject="1")
        reader = FeedReader(database, Feed("parcels", handler), events=EventTypes([SENT]))
        assert await reader.drain() == 2
        assert seen == [({"grams": 7, "to": {"name": "emma", "country": "XX"}}, 7)]
        async with Unit(database) as work:
            await work.emit("parcel.sent", subject="1", data={"$v": 4})
        with pytest.raises(EventVersionUnknown):
            await reader.drain()
        assert len(seen) == 1

    asyncio.run(on("pool", database_url, script))
