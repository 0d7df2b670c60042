"""A service over the names: rows in any format, births that are counted from the journal, and files to download.

The table is filled by an import (`names.demo`). A job reads it as a frame, writes the births of each year and sex into
another table, and says so in the journal, where a measure counts them: all in one commit.
"""

import os
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import polars as pl
from fastapi import FastAPI

from workhorse import Migrations, Service, unit
from workhorse.analytics.exports import Downloads
from workhorse.analytics.frames import read_frame, write_frame
from workhorse.analytics.measures import Measure, Measures
from workhorse.analytics.tables import Selection, Tables
from workhorse.integrations.tables import Answer, Download
from workhorse.jobs import job
from workhorse.state.objects import open_store

__all__ = ["TABLES", "count_births", "names", "service", "tables"]

TABLES: Final = Migrations.inline(
    "names",
    "CREATE TABLE names (year int2 NOT NULL, sex char(1) NOT NULL, name text NOT NULL, births int4 NOT NULL,"
    " share float8 NOT NULL, PRIMARY KEY (year, sex, name));"
    " CREATE TABLE births (year int2, sex char(1), births int8 NOT NULL, names int4 NOT NULL, PRIMARY KEY (year, sex))",
)

api = FastAPI(title="Names")
tables = Tables()
measures = Measures([Measure("births", of="births.counted", by=("sex",), window="1 day", sum="births")])


def names(since: int = 0) -> Selection:
    """The names of the years from `since` on."""
    return tables.select("SELECT year, sex, name, births, share FROM names WHERE year >= %s", (since,), name="names")


downloads = Downloads(
    tables, store=open_store(os.environ.get("NAMES_STORE", Path(".workhorse/exports"))), queries={"names": names}
)


@job(deadline_seconds=120)
async def count_births() -> None:
    """The births of each year and sex, as a table and as events."""
    frame = await read_frame(names(), "polars")
    counted = frame.group_by("year", "sex").agg(births=pl.col("births").sum(), names=pl.len()).sort("year", "sex")
    await write_frame(counted, into="births", mode="upsert", key=["year", "sex"])
    work = await unit()
    for row in counted.iter_rows(named=True):
        await work.emit("births.counted", subject=f"{row['year']}/{row['sex']}", data=row)


@api.get("/names")
async def rows(since: int = 0) -> Answer:
    """All of them, in the format that the client asks for."""
    return Answer(names(since))


@api.get("/births")
async def births() -> list[dict[str, Any]]:
    """What the measure has counted."""
    found = await measures.read(await unit(), "births", by=["sex"])
    return [{"sex": row.by["sex"], "events": row.events, "births": row.sum} for row in found]


@api.post("/exports", status_code=202)
async def export(since: int = 0) -> dict[str, str]:
    """Have a file made."""
    ticket = await downloads.begin("names", {"since": since})
    return {"location": ticket.location}


@api.get("/exports/{id_}")
async def download(id_: UUID) -> Download:
    """The file, or a part of it."""
    return Download(downloads, id_)


service = Service(api, tables=tables, jobs=[count_births, downloads.job], feeds=measures.feeds, migrations=[TABLES])
