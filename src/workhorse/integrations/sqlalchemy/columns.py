"""The types of sealed columns, and of the blind indexes beside them. In the database both are `bytea`."""

from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Dialect, LargeBinary
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator

from workhorse.privacy import PERSONAL, BlindIndex
from workhorse.privacy.columns import CannotSeal, Unopened, Whose

__all__ = ["BlindText", "Carried", "ColumnNotSealed", "SealedText"]

EQUAL: Final = frozenset((operators.eq, operators.ne))
AMONG: Final = frozenset((operators.in_op, operators.not_in_op))
NULL: Final = frozenset((operators.is_, operators.is_not))


class ColumnNotSealed(DontWrapMixin, CannotSeal):
    """A value was about to reach a sealed column, or to be compared with one, as it is.

    SQLAlchemy does not wrap it: what it wraps is told with the values of the statement.
    """


class Carried:
    """A text on its way through a flush, with what it was sealed to."""

    __slots__ = ("plain", "sealed")

    def __init__(self, plain: str, sealed: bytes) -> None:
        self.plain = plain
        self.sealed = sealed

    def __repr__(self) -> str:
        return "<sealed>"


class SealedText(TypeDecorator[str]):
    """Text that is encrypted under the key of a person, whom another column of the row names.

    Null stays null. Of a person who was erased it is None. It cannot be searched or sorted by, other than for null;
    for equality keep a `BlindText` beside it.

    Args:
        person: whose key, with an attribute of the model in braces: `patient/{number}`. The attribute has to be known
            as the row is written; of a primary key that the database numbers, the next number is drawn before.
        sealed_as: the name that it is sealed under, by default `table.column`. Of a column or table that has been
            renamed: the former one, without which it does not open.

    Raises:
        SettingsError: the person has another form.
    """

    impl = LargeBinary
    cache_ok = True
    data_class = PERSONAL
    """What it holds, unless its annotation says more."""

    def __init__(self, person: str, *, sealed_as: str = "") -> None:
        super().__init__()
        self.person = person  # SQLAlchemy makes copies of a type by the names of its arguments
        self.whose = Whose.parse(person)
        self.sealed_as = sealed_as

    def __repr__(self) -> str:
        more = f", sealed_as={self.sealed_as!r}" if self.sealed_as else ""
        return f"SealedText({self.person!r}{more})"  # as a migration has it

    def process_bind_param(self, value: object, dialect: Dialect) -> Any:  # noqa: ARG002
        """What was sealed. A text has no way to here but by a session that seals."""
        if isinstance(value, Carried | Unopened):
            return value.sealed
        if value is None or isinstance(value, bytes):
            return value
        raise ColumnNotSealed(
            f"a {type(value).__name__} was about to be written into a column that is sealed for {self.whose}, or"
            " compared with it. Write rows by `session.add`, in a session that seals: that of a unit, or of a"
            " sessionmaker that was given to `seal_sessions`; compare with a BlindText column; or pass what"
            " `SubjectCipher.seal` returned"
        )

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """What is sealed, until the session opens it."""
        return None if value is None else Unopened(bytes(value))

    def compare_values(self, x: Any, y: Any) -> bool:
        """Whether two values are the same text."""
        return bool(_plain(x) == _plain(y))

    class Comparator(TypeDecorator.Comparator[str]):
        """Refuses what would compare ciphertexts."""

        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            """Compare with null, and with nothing else."""
            # SQLAlchemy compares columns with one another, to find them in dicts.
            if op in NULL or (op in EQUAL and (other[0] is None or isinstance(other[0], ColumnElement))):
                return super().operate(op, *other, **kwargs)
            raise _incomparable(self.expr, "null alone; keep a BlindText column beside it for equality")

        def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> Any:  # noqa: ARG002
            """Refuse."""
            raise _incomparable(self.expr, "null alone; keep a BlindText column beside it for equality")

    comparator_factory = Comparator  # pyright: ignore[reportAssignmentType]


class BlindText(TypeDecorator[bytes]):
    """The blind index of a sealed column of the same row: sessions that seal fill it, and text is compared with it.

        select(Patient).where(Patient.phone_index == "555-1234")

    An erasure empties it, so it has to be nullable.

    Args:
        index: has the key. Without, as in a migration, nothing can be written or compared.
        of: the attribute of the model that is sealed.
        label: which texts are comparable; by default those of the same attribute, of whichever model.
    """

    impl = LargeBinary
    cache_ok = True
    data_class = PERSONAL
    is_blind_index = True

    def __init__(self, index: BlindIndex | None = None, *, of: str, label: str = "") -> None:
        super().__init__()
        self.index = index
        self.of = of
        self.label = label or of

    def __repr__(self) -> str:
        return f"BlindText(of={self.of!r}, label={self.label!r})"

    def index_of(self, text: str) -> bytes:
        """What stands for a text.

        Raises:
            ColumnNotSealed: there is no key.
        """
        if self.index is None:
            raise ColumnNotSealed(f"the blind index of {self.of!r} has no key: BlindText(BlindIndex(key), of=...)")
        return self.index.of(self.label, text)

    def process_bind_param(self, value: object, dialect: Dialect) -> Any:  # noqa: ARG002
        """What stands for a text."""
        return self.index_of(value) if isinstance(value, str) else value

    class Comparator(TypeDecorator.Comparator[bytes]):
        """Compares for equality."""

        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            """Compare for equality, and with nothing else."""
            if op in NULL or op in EQUAL or op in AMONG:
                return super().operate(op, *other, **kwargs)
            raise _incomparable(self.expr, "equal texts alone")

    comparator_factory = Comparator  # pyright: ignore[reportAssignmentType]


def _incomparable(expression: Any, what: str) -> ColumnNotSealed:
    return ColumnNotSealed(f"the sealed column {expression} can be compared with {what}")


def _plain(value: Any) -> Any:
    return cast("Any", value.plain if isinstance(value, Carried) else value)
