"""Which fields of the models hold what: read from their `Annotated` types, without importing any framework.

pydantic models, dataclasses, msgspec structs and SQLAlchemy's mapped classes (`Mapped[Annotated[str, PERSONAL]]`) are
read by their type hints. Other classes, such as Django's models, say it beside their fields:

    class Patient(models.Model):
        phone = models.CharField(max_length=40)
        __privacy__ = {"phone": PERSONAL}
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, cast, get_args, get_origin, get_type_hints

from workhorse.errors import SettingsError
from workhorse.privacy.classes import OF_PERSONS, STRICTNESS, DataClass

__all__ = ["DataMap", "Field", "classes_of", "personal_members", "said_by", "view"]

MAX_DEPTH: Final = 8
DECLARED: Final = "__privacy__"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model."""

    model: str
    """Its qualified name."""
    name: str
    class_: DataClass | None
    """None: nobody has said."""


def classes_of(model: type) -> dict[str, DataClass | None]:
    """The class of each field of a model, in the order of its fields.

    Raises:
        SettingsError: a field says two classes, or `__privacy__` names a class that is none.
    """
    found: dict[str, DataClass | None] = {}
    for name, hint in get_type_hints(model, include_extras=True).items():
        if name.startswith("_") or get_origin(hint) is ClassVar:
            continue
        said = set(_said(hint))
        if len(said) > 1:
            classes = ", ".join(sorted(one.value for one in said))
            raise SettingsError(f"{model.__qualname__}.{name} is said to be {classes}; it is one of them")
        found[name] = said.pop() if said else None
    for names, said_by_type in _columns_of(model):
        said_of_it = next((found[name] for name in names if found.get(name) is not None), said_by_type)
        for name in names:
            if found.get(name) is None:
                found[name] = said_of_it
    return {**found, **_declared(model)}


def said_by(function: Callable[..., object]) -> dict[str, DataClass]:
    """The classes of a function's parameters, of those that say one; of a model its strictest."""
    found: dict[str, DataClass] = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        classes = {*_said(hint), *(one for inner in _models_in(hint) for one in _all_classes(inner))}
        if classes and name != "return":
            found[name] = max(classes, key=STRICTNESS.index)
    return found


def personal_members(model: type) -> dict[str, DataClass]:
    """The fields of a model that are about people, those whose own models have such fields among them.

    Raises:
        SettingsError: as `classes_of`, or a field has the class `card`.
    """
    found: dict[str, DataClass] = {}
    hints = get_type_hints(model, include_extras=True)
    for name, class_ in classes_of(model).items():
        within = {one for inner in _models_in(hints.get(name)) for one in _all_classes(inner)}
        said = within if class_ is None else {class_, *within}
        strictest = max(said, key=STRICTNESS.index, default=DataClass.INTERNAL)
        if strictest is DataClass.CARD:
            raise SettingsError(f"{model.__qualname__}.{name} holds card numbers, which are not kept")
        if strictest in OF_PERSONS:
            found[name] = strictest
    return found


def view(record: Mapping[str, Any], model: type, may: Collection[DataClass]) -> dict[str, Any]:
    """What somebody may see of a record: the fields of the classes in `may`; the others are left out.

    What nobody has classified is left out, too, so that a new field is not shown before somebody has thought of it
    (minimum necessary: 45 CFR 164.502(b); GDPR, article 25).
    """
    classes = classes_of(model)
    return {
        name: value for name, value in record.items() if (class_ := classes.get(name)) is not None and class_ in may
    }


class DataMap:
    """The fields of an app's models, and what they hold (GDPR, article 30).

    Args:
        models: classes.

    Raises:
        SettingsError: a model says something that cannot be, or has a field of the class `card`.
    """

    def __init__(self, models: Iterable[type]) -> None:
        self.fields = sorted(
            (
                Field(f"{model.__module__}.{model.__qualname__}", name, class_)
                for model in models
                for name, class_ in classes_of(model).items()
            ),
            key=lambda field: (field.model, field.name),
        )
        """Every field."""
        for field in self.fields:
            if field.class_ is DataClass.CARD:
                raise SettingsError(
                    f"{field.model}.{field.name} holds card numbers, which are not kept: keep the token of your"
                    " payment provider instead, which is internal (PCI DSS 4.0.1, 3.3 and 3.5)"
                )

    @property
    def unclassified(self) -> list[Field]:
        """Fields of which nobody has said what they hold."""
        return [field for field in self.fields if field.class_ is None]

    def of(self, *classes: DataClass) -> list[Field]:
        """The fields of these classes."""
        return [field for field in self.fields if field.class_ in classes]

    def as_json(self) -> list[dict[str, str | None]]:
        """The map, for a file that is kept and compared."""
        return [
            {"model": field.model, "field": field.name, "class": None if field.class_ is None else field.class_.value}
            for field in self.fields
        ]


def _columns_of(model: type) -> list[tuple[Collection[str], DataClass | None]]:
    """The columns of a Django model or an SQLAlchemy class, which its annotations need not name.

    Of each the names, as attribute and as column, and the class that its type says by itself, as a sealed one's does.
    """
    django = getattr(getattr(model, "_meta", None), "concrete_fields", ())
    mapped = getattr(getattr(model, "__mapper__", None), "column_attrs", ())
    columns = [(attribute.key, attribute.columns[0]) for attribute in mapped]
    return [
        *(({str(field.name)}, getattr(field, "data_class", None)) for field in django),
        *(({str(key), str(column.name)}, getattr(column.type, "data_class", None)) for key, column in columns),
    ]


def _declared(model: type) -> Mapping[str, DataClass]:
    declared: object = getattr(model, DECLARED, {})
    if not isinstance(declared, Mapping):
        raise SettingsError(
            f"{model.__qualname__}.{DECLARED} is {declared!r}; it is a dict of fields and their classes"
        )
    fields = cast("Mapping[str, object]", declared)
    for name, class_ in fields.items():
        if not isinstance(class_, DataClass):
            raise SettingsError(f"{model.__qualname__}.{DECLARED}[{name!r}] is {class_!r}; it is a DataClass")
    return cast("Mapping[str, DataClass]", fields)


def _all_classes(model: type, depth: int = 0) -> Iterable[DataClass]:
    """The classes of a model's fields, and of the models within."""
    if depth > MAX_DEPTH:
        return
    hints = get_type_hints(model, include_extras=True)
    for name, class_ in classes_of(model).items():
        if class_ is not None:
            yield class_
        for inner in _models_in(hints.get(name)):
            yield from _all_classes(inner, depth + 1)


def _models_in(hint: Any, depth: int = 0) -> Iterable[type]:
    """The classes with fields of their own that a type names, however deep."""
    if depth > MAX_DEPTH:
        return
    if get_origin(hint) is None and isinstance(hint, type) and getattr(hint, "__annotations__", None):
        yield hint
    for inner in get_args(hint):
        if not isinstance(inner, DataClass):
            yield from _models_in(inner, depth + 1)


def _said(hint: Any, depth: int = 0) -> Iterable[DataClass]:
    """The classes that a type names, however deep: `Mapped[Annotated[str, PERSONAL] | None]`."""
    if depth > MAX_DEPTH:
        return
    if get_origin(hint) is Annotated:
        yield from (one for one in hint.__metadata__ if isinstance(one, DataClass))
    for inner in get_args(hint):
        if not isinstance(inner, DataClass):
            yield from _said(inner, depth + 1)
