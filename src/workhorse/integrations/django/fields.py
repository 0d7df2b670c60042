"""Fields of Django's models that are sealed by themselves, each row's under the key of the person it is about.

    class Patient(models.Model):
        number = models.CharField(max_length=20, primary_key=True)
        phone = SealedTextField("patient/{number}", blank=True)
        phone_index = BlindIndexField(of="phone")

        objects = SealedManager()

    WORKHORSE_PRIVACY = "clinic.privacy:PRIVACY"    # in the settings module

`patient.phone` is text, the column is `bytea`. `Patient.objects.filter(phone_index="555-1234")` finds by equality. It
needs the extras `django` and `privacy`.
"""

# Django has no types, and these are classes of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from django.core import checks
from django.db import models
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import post_init, pre_save

from workhorse.errors import SettingsError
from workhorse.integrations.django.managers import SealedManager
from workhorse.integrations.django.sealing import (
    Carried,
    alias_of,
    carried,
    number_rows,
    open_rows,
    privacy_of_project,
    remember,
    seal_rows,
)
from workhorse.privacy import PERSONAL
from workhorse.privacy.columns import CannotSeal, Unopened, Whose

__all__ = ["BlindIndexField", "SealedManager", "SealedTextField"]

TEXT_FIELD: Final = cast("Any", models.TextField)
BINARY_FIELD: Final = cast("Any", models.BinaryField)
DESCRIPTOR: Final = cast("Any", DeferredAttribute)
CHECKS: Final = cast("Any", checks)
POST_INIT: Final = cast("Any", post_init)
PRE_SAVE: Final = cast("Any", pre_save)


class SealedAttribute(DESCRIPTOR):  # type: ignore[misc, valid-type]
    """Opens a value as it is read."""

    def __get__(self, row: Any, model: Any = None) -> Any:
        """The text; None of a person who was erased."""
        if row is None:
            return self
        name = self.field.attname
        value = row.__dict__[name] if name in row.__dict__ else super().__get__(row, model)
        if isinstance(value, Unopened):
            open_rows([row])
            value = row.__dict__[name]
        return value

    def __set__(self, row: Any, value: object) -> None:
        """Set what is sealed when the row is saved."""
        row.__dict__[self.field.attname] = value


class SealedTextField(TEXT_FIELD):  # type: ignore[misc, valid-type]
    """Text that is encrypted under the key of a person, whom another field of the row names.

    Null stays null. Of a person who was erased it is None, and a row that is saved keeps what it has. It cannot be
    searched or sorted by, other than for null; for equality keep a `BlindIndexField` beside it.

    Args:
        person: whose key, with a field of the model in braces: `patient/{number}`, or of a foreign key its column,
            `patient/{patient_id}`. It has to be known as the row is saved; of a primary key that the database numbers
            the next number is drawn before.
        sealed_as: the name that it is sealed under, by default `table.column`. Of a column or table that has been
            renamed: the former one, without which it does not open.

    Raises:
        SettingsError: the person has another form.
    """

    description = "Text, sealed under the key of a person"
    descriptor_class = SealedAttribute
    data_class = PERSONAL
    """What it holds, unless `__privacy__` of the model says more."""

    def __init__(self, person: str, *args: Any, sealed_as: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.whose = Whose.parse(person)
        self.sealed_as = sealed_as

    if TYPE_CHECKING:  # on rows it is what `descriptor_class` gives

        def __get__(self, row: Any, model: Any = None) -> Any: ...
        def __set__(self, row: Any, value: Any) -> None: ...

    def deconstruct(self) -> Any:
        """For migrations."""
        name, path, args, kwargs = super().deconstruct()
        more = {"sealed_as": self.sealed_as} if self.sealed_as else {}
        return name, path, [str(self.whose), *args], {**kwargs, **more}

    def get_internal_type(self) -> str:
        """As the database has it."""
        return "BinaryField"

    def contribute_to_class(self, cls: type, name: str, **kwargs: Any) -> None:
        """Have rows remembered as they are loaded, and sealed as they are saved."""
        super().contribute_to_class(cls, name, **kwargs)
        if not cast("Any", cls)._meta.abstract:  # noqa: SLF001 - Django's word for it
            POST_INIT.connect(_on_init, sender=cls, dispatch_uid="workhorse.sealed")
            PRE_SAVE.connect(_on_save, sender=cls, dispatch_uid="workhorse.sealed")

    def check(self, **kwargs: Any) -> list[Any]:
        """That the person can be named, and that there are keys."""
        found = list(super().check(**kwargs))
        names = {name for field in self.model._meta.concrete_fields for name in (field.name, field.attname)}  # noqa: SLF001
        related = [field.name for field in self.model._meta.concrete_fields if field.is_relation]  # noqa: SLF001
        if self.whose.member != "pk" and (self.whose.member not in names or self.whose.member in related):
            hint = f"Name a column of the row: {', '.join(sorted(names - {*related, self.attname}))}."
            found.append(
                CHECKS.Error(
                    f"It is sealed for {self.whose}, which names none.", hint=hint, obj=self, id="workhorse.E008"
                )
            )
        if self.unique or self.db_index:
            found.append(
                CHECKS.Error(
                    "What is sealed is never the same twice, so an index over it finds nothing.",
                    hint="Put it on a BlindIndexField beside it.",
                    obj=self,
                    id="workhorse.E009",
                )
            )
        try:
            privacy_of_project()
        except SettingsError as error:
            found.append(CHECKS.Error(str(error), obj=self, id="workhorse.E010"))
        return found

    def from_db_value(self, value: Any, _expression: object, _connection: object) -> Unopened | None:
        """What is sealed, until it is read."""
        return None if value is None else Unopened(bytes(value))

    def pre_save(self, model_instance: Any, add: bool) -> Any:  # noqa: ARG002, FBT001 - Django's signature
        """What is sealed of the row."""
        found = carried(model_instance, self)
        if found is None and model_instance.__dict__.get(self.attname) is not None:
            seal_rows([model_instance], alias_of(model_instance))
            found = carried(model_instance, self)
        return found

    def get_prep_value(self, value: Any) -> Any:
        """What was sealed: a text has no way to here but by a row that is saved."""
        if value is None or isinstance(value, Carried | Unopened | bytes):
            return value
        raise CannotSeal(
            f"a {type(value).__name__} was about to be written into {self.model._meta.label}.{self.name}, which is"  # noqa: SLF001
            f" sealed for {self.whose}, or compared with it. Write rows by save(), create() or bulk_create(); compare"
            " with a BlindIndexField; or pass what `SubjectCipher.seal` returned"
        )

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:  # noqa: FBT001, FBT002
        """As bytes."""
        found = super().get_db_prep_value(value, connection, prepared)
        return found.sealed if isinstance(found, Carried | Unopened) else found

    def get_lookup(self, lookup_name: str) -> Any:
        """Compare with null, and with nothing else."""
        if lookup_name != "isnull":
            raise CannotSeal(
                f"{self.model._meta.label}.{self.name} is sealed, so {lookup_name!r} finds nothing: keep a"  # noqa: SLF001
                " BlindIndexField beside it, and compare that"
            )
        return super().get_lookup(lookup_name)

    def to_python(self, value: Any) -> Any:
        """A text, from a form or a file."""
        return value if isinstance(value, Unopened | Carried) else super().to_python(value)


class BlindIndexField(BINARY_FIELD):  # type: ignore[misc, valid-type]
    """The blind index of a sealed field of the same row: filled as the row is saved, and compared with text.

        Patient.objects.filter(phone_index="555-1234")

    An erasure empties it, so it may be null.

    Args:
        of: the field that is sealed.
        label: which texts are comparable; by default those of fields of the same name, of whichever model.
    """

    description = "Blind index of a sealed text"
    data_class = PERSONAL
    is_blind_index = True
    LOOKUPS: ClassVar[Collection[str]] = frozenset({"exact", "in", "isnull"})

    def __init__(self, *args: Any, of: str, label: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **{"null": True, "editable": False, "db_index": True, **kwargs})
        self.of = of
        self.label = label

    if TYPE_CHECKING:  # on rows it is bytes

        def __get__(self, row: Any, model: Any = None) -> Any: ...
        def __set__(self, row: Any, value: Any) -> None: ...

    def deconstruct(self) -> Any:
        """For migrations."""
        name, path, args, kwargs = super().deconstruct()
        for default in ("null", "editable"):
            kwargs.pop(default, None)
        return name, path, args, {**kwargs, "of": self.of, **({"label": self.label} if self.label else {})}

    def check(self, **kwargs: Any) -> list[Any]:
        """That there is something to index, and a key."""
        found = list(super().check(**kwargs))
        fields = {field.name: field for field in self.model._meta.concrete_fields}  # noqa: SLF001 - Django's word for it
        if not isinstance(fields.get(self.of), SealedTextField):
            message = f"It is a blind index of {self.of!r}, which is no SealedTextField of the model."
            found.append(CHECKS.Error(message, obj=self, id="workhorse.E011"))
        try:
            self.index_of("")
        except SettingsError as error:
            found.append(CHECKS.Error(str(error), obj=self, id="workhorse.E012"))
        return found

    def index_of(self, text: str) -> bytes:
        """What stands for a text.

        Raises:
            SettingsError: the project's Privacy has no key for it.
        """
        index = privacy_of_project().blind_index
        if index is None:
            raise SettingsError(f"the blind index of {self.of!r} has no key: Privacy(..., blind_index=BlindIndex(key))")
        return index.of(self.label or self.of, text)

    def pre_save(self, model_instance: Any, add: bool) -> Any:  # noqa: ARG002, FBT001 - Django's signature
        """What stands for the text of the row."""
        text = model_instance.__dict__.get(self.of)
        if isinstance(text, str):
            setattr(model_instance, self.attname, self.index_of(text))
        elif text is None and self.of in model_instance.__dict__:
            setattr(model_instance, self.attname, None)
        return getattr(model_instance, self.attname)

    def get_prep_value(self, value: Any) -> Any:
        """What stands for a text."""
        return self.index_of(value) if isinstance(value, str) else super().get_prep_value(value)

    def get_lookup(self, lookup_name: str) -> Any:
        """Compare for equality, and with nothing else."""
        if lookup_name not in self.LOOKUPS:
            where = f"{self.model._meta.label}.{self.name}"  # noqa: SLF001 - as above
            raise CannotSeal(f"{where} is a blind index: {lookup_name!r} finds nothing in it")
        return super().get_lookup(lookup_name)


def _on_init(instance: Any, **_: object) -> None:
    remember(instance)


def _on_save(
    sender: Any, instance: Any, using: str, update_fields: Collection[str] | None, *, raw: bool, **_: object
) -> None:
    """Seal a row that is about to be saved."""
    if update_fields is not None:
        missing = [
            field.name
            for field in sender._meta.concrete_fields  # noqa: SLF001 - Django's word for it
            if isinstance(field, BlindIndexField) and field.of in update_fields and field.name not in update_fields
        ]
        if missing:
            raise CannotSeal(
                f"save(update_fields={sorted(update_fields)}) would leave the blind index {', '.join(missing)} as it"
                " is: name it, too"
            )
    number_rows([instance], using)
    seal_rows([instance], using)
    if raw:  # a fixture: Django takes the attributes as they are
        for field in sender._meta.concrete_fields:  # noqa: SLF001 - as above
            if isinstance(field, SealedTextField):
                instance.__dict__[field.attname] = carried(instance, field)
            elif isinstance(field, BlindIndexField):
                field.pre_save(instance, add=True)
