"""What models say of their fields, and what somebody may see of them."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from workhorse.errors import SettingsError
from workhorse.privacy import CARD, HEALTH, INTERNAL, PERSONAL, PUBLIC, DataClass, DataMap, classes_of, view


class Pydantic(BaseModel):
    number: Annotated[str, INTERNAL]
    phone: Annotated[str, PERSONAL] | None = None
    findings: list[Annotated[str, HEALTH]]
    forgotten: str = ""


@dataclass
class Plain:
    number: Annotated[str, INTERNAL]
    phone: Annotated[str | None, PERSONAL]
    findings: Annotated[list[str], HEALTH]
    forgotten: str
    shared: ClassVar[int] = 1


class Struct(msgspec.Struct):
    number: Annotated[str, msgspec.Meta(max_length=9), INTERNAL]
    phone: Annotated[str, PERSONAL] | None
    findings: list[Annotated[str, HEALTH]]
    forgotten: str


class Base(DeclarativeBase):
    pass


class Mapped_(Base):  # noqa: N801 - the name is taken
    __tablename__ = "mapped"
    number: Mapped[Annotated[str, INTERNAL]] = mapped_column(primary_key=True)
    phone: Mapped[Annotated[str, PERSONAL] | None]
    findings: Mapped[Annotated[str, HEALTH]]
    forgotten: Mapped[str]


class Said:
    __privacy__: ClassVar = {"number": INTERNAL, "phone": PERSONAL, "findings": HEALTH}


@pytest.mark.parametrize("model", [Pydantic, Plain, Struct, Mapped_])
def test_the_types_of_a_model_say_what_its_fields_hold(model: type) -> None:
    said = {name: class_ for name, class_ in classes_of(model).items() if name not in {"metadata", "registry"}}
    assert said == {"number": INTERNAL, "phone": PERSONAL, "findings": HEALTH, "forgotten": None}


def test_a_class_without_types_says_it_beside_its_fields() -> None:
    assert classes_of(Said) == {"number": INTERNAL, "phone": PERSONAL, "findings": HEALTH}


def test_columns_that_no_annotation_names_are_there_and_of_no_class() -> None:
    class Loose(Base):
        __table__ = Table("loose", Base.metadata, Column("id", Integer, primary_key=True), Column("phone", String))
        __privacy__: ClassVar = {"id": INTERNAL}

    said = classes_of(Loose)
    assert (said["id"], said["phone"]) == (INTERNAL, None)


def test_what_cannot_be_is_refused() -> None:
    class Two:
        phone: Annotated[str, PERSONAL, HEALTH]

    class Typo:
        __privacy__: ClassVar[Any] = {"phone": "persnal"}

    class Card:
        number: Annotated[str, CARD]

    with pytest.raises(SettingsError, match=r"Two\.phone is said to be health, personal"):
        classes_of(Two)
    with pytest.raises(SettingsError, match="'persnal'; it is a DataClass"):
        classes_of(Typo)
    with pytest.raises(SettingsError, match=r"Card\.number holds card numbers, which are not kept"):
        DataMap([Card])


def test_a_view_shows_the_classes_that_one_may_see_and_nothing_that_nobody_has_classified() -> None:
    record = {"number": "1", "phone": "555", "findings": ["flu"], "forgotten": "secret", "unknown": 1}
    assert view(record, Plain, {INTERNAL, PERSONAL}) == {"number": "1", "phone": "555"}
    assert view(record, Plain, set(DataClass)) == {"number": "1", "phone": "555", "findings": ["flu"]}
    assert view(record, Plain, {PUBLIC}) == {}


def test_a_map_lists_every_field_and_those_of_which_nobody_has_said() -> None:
    whole = DataMap([Plain, Said])
    assert [field.name for field in whole.unclassified] == ["forgotten"]
    assert {field.model.rpartition(".")[2] for field in whole.of(HEALTH)} == {"Plain", "Said"}
    assert {"model": f"{__name__}.Said", "field": "phone", "class": "personal"} in whole.as_json()
