"""A definition that has changed under its version is refused at the start; what does not change a figure is not."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from tests.analytics.measures.kit import REVENUE, drain, post, run
from tests.asgi_client import StartFailed, running
from tests.units.databases import Sql
from workhorse import Service
from workhorse.analytics.measures import DefinitionChanged, Measure, Measures, forget_version
from workhorse.analytics.measures.definition import definition_of, digest_of
from workhorse.feeds.reader import prepare_feeds
from workhorse.settings import load_settings

FULL = Measure(
    "full",
    of="order.placed",
    by=("shop", "country"),
    window=("1 minute", "1 day"),
    keep=("4 days", None),
    sum="a",
    min="a",
    max="a",
    average="a",
    distinct="a",
    quantiles="a",
    top="a",
)
OTHER = Measures([replace(REVENUE, sum="fee", min=None)])


async def prepare(database: Any, *measures: Measure) -> None:
    await prepare_feeds(database, Measures(measures).feeds)


async def start(database_url: str, measures: Measures, **values: Any) -> None:
    settings = load_settings(database={"url": database_url}, log={"level": "error"}, **values)
    async with running(Service(FastAPI(openapi_url=None), feeds=measures.feeds, settings=settings)):
        pass


@pytest.mark.parametrize(
    "changed",
    [
        {"of": "order.*"},
        {"by": ("shop",)},
        {"by": ("shop", "debtor.country")},
        {"window": ("1 minute", "1 hour")},
        {"window": "1 minute", "keep": None},
        *({name: "b"} for name in FULL.paths),
        *({name: None} for name in FULL.paths),
    ],
    ids=str,
)
def test_whatever_alters_a_figure_alters_the_digest(changed: dict[str, Any]) -> None:
    assert digest_of(definition_of(replace(FULL, **changed))) != digest_of(definition_of(FULL))


@pytest.mark.parametrize(
    "changed",
    [
        {"keep": None},
        {"keep": "1 day"},
        {"by": ("country", "shop")},
        {"window": ("60 seconds", "24 hours")},
        {"version": 2},
    ],
    ids=str,
)
def test_what_alters_no_figure_does_not_alter_the_digest(changed: dict[str, Any]) -> None:
    assert digest_of(definition_of(replace(FULL, **changed))) == digest_of(definition_of(FULL))


def test_the_digest_of_a_definition_stays_what_it_was_in_the_first_release() -> None:
    """Another one would refuse every service that is upgraded."""
    assert digest_of(definition_of(FULL)) == "9676dd9402185b47295f328c99208ed9031222aea6e67bc8aa82fc3ad30a46c3"
    assert (
        digest_of(definition_of(Measure("bare", of="order.placed")))
        == "54461cc43025a1b79384575ebeb35ca3bea2879528de59fb84ae050498bfabc3"
    )


@pytest.mark.parametrize("in_process", ["on", "off"])
def test_a_service_whose_measure_has_changed_does_not_start_whether_it_counts_or_only_reads(
    database_url: str, in_process: str
) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await start(database_url, Measures([REVENUE]))
        await start(database_url, Measures([REVENUE]))
        with pytest.raises(StartFailed) as refused:
            await start(database_url, OTHER, jobs={"in_process": in_process})
        told = str(refused.value)
        assert "the measure 'revenue' has changed under version 1" in told
        assert "sum was 'amount' and is 'fee'; min was 'amount' and is None. Give it" in told
        assert "version=2" in told
        assert "forget_version(database, 'revenue', 1)" in told
        await start(database_url, Measures([replace(REVENUE, sum="fee", min=None, version=2)]))
        assert len(sql("SELECT 1 FROM workhorse.measure_definitions")) == 2

    run(database_url, script)


def test_a_version_that_was_counted_before_definitions_were_noted_gets_the_one_that_comes(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        measures = Measures([REVENUE])
        await post(database, "1.00")
        await drain(database, measures)  # as code does that knows no definitions
        assert sql("SELECT * FROM workhorse.measure_definitions") == []
        await prepare(database, REVENUE)
        ((name, version, definition),) = sql("SELECT measure, version, definition FROM workhorse.measure_definitions")
        assert (name, version, definition) == ("revenue", 1, definition_of(REVENUE))
        with pytest.raises(DefinitionChanged):
            await prepare_feeds(database, OTHER.feeds)

    run(database_url, script)


def test_of_two_definitions_that_start_at_once_one_is_refused(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        for version in range(1, 11):
            both = [replace(REVENUE, version=version), replace(REVENUE, version=version, sum="fee")]
            ends = await asyncio.gather(*(prepare(database, one) for one in both), return_exceptions=True)
            assert sorted(type(end).__name__ for end in ends) == ["DefinitionChanged", "NoneType"], ends
        assert len(sql("SELECT 1 FROM workhorse.measure_definitions")) == 10

    run(database_url, script)


def test_a_version_that_is_forgotten_may_become_another(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await prepare(database, REVENUE)
        await forget_version(database, "revenue", 1)
        await prepare_feeds(database, OTHER.feeds)

    run(database_url, script)
