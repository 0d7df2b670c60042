"""What is declared wrongly, or is about people, is refused before anything is copied."""

from typing import Annotated, Any

import msgspec
import pytest

from workhorse.analytics.measures import Measure
from workhorse.analytics.warehouse import Column, CopiedTable, Warehouse
from workhorse.errors import SettingsError
from workhorse.journal import EventType
from workhorse.privacy import PERSONAL


class Called(msgspec.Struct):
    phone: Annotated[str, PERSONAL]
    minutes: int


CALLED = EventType("patient.called", Called, person="patient/{subject}")


@pytest.mark.parametrize("of", ["patient.called", "patient.*"])
def test_a_personal_column_is_refused_unless_it_is_named_as_one(of: str) -> None:
    with pytest.raises(SettingsError, match=r"'phone'.*personal=True"):
        Warehouse([CopiedTable("calls", of=of, columns=(Column("phone"),))], events=[CALLED])
    with pytest.raises(SettingsError, match=r"'number'.*about people"):
        Warehouse([CopiedTable("calls", of=of, columns=(Column("number", path="phone.x"),))], events=[CALLED])
    meant = Column("phone", "json", personal=True)
    Warehouse([CopiedTable("calls", of=of, columns=(meant, Column("minutes", "number")))], events=[CALLED])


@pytest.mark.parametrize("name", ["id", "Amount", "a__odd", "a-b", "", 'a"', "second"])
def test_a_column_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="the column"):
        Column(name)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": "Transfers"}, "'Transfers'"),
        ({"name": "positions"}, "'positions'"),
        ({"columns": ()}, "1 to 100"),
        ({"columns": (Column("a"), Column("a"))}, "each once"),
    ],
)
def test_a_malformed_table_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        CopiedTable(**{"name": "transfers", "of": "transfer.posted", "columns": (Column("a"),), **values})


def test_a_measure_needs_a_table_with_its_columns() -> None:
    table = CopiedTable("transfers", of="transfer.posted", columns=(Column("amount"), Column("currency", "number")))
    for measure in (
        Measure("m", of="transfer.posted", sum="amount"),
        Measure("m", of="transfer.posted", by=("currency",)),
        Measure("m", of="transfer.*"),
    ):
        with pytest.raises(SettingsError, match="no table of the warehouse"):
            Warehouse([table], measures=[measure])


def test_a_measure_with_sketches_is_refused() -> None:
    table = CopiedTable("transfers", of="transfer.posted", columns=(Column("amount", "number"),))
    with pytest.raises(SettingsError, match="quantiles or top"):
        Warehouse([table], measures=[Measure("m", of="transfer.posted", quantiles="amount")])
