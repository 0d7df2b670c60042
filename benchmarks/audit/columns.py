"""What columns that seal themselves cost: rows of SQLAlchemy with one such column beside rows with a text.

The peer is SQLAlchemy-Utils' `StringEncryptedType` with its AES-GCM: one key for all rows, so that nobody is erased by
destroying theirs. Each row of ours has a person, and a key, of its own, wrapped and kept in the database.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, Text, create_engine, delete, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from benchmarks.figures import Claim, Spread
from benchmarks.processes import MeasurementError
from workhorse.integrations.sqlalchemy import SealedText, seal_sessions
from workhorse.privacy import LocalKeys, SubjectKeys

__all__ = ["OURS", "PEER", "ColumnTimes", "claims", "table", "time_columns"]

TEXT: Final = "Alexandra Constantinopoulos, 14 Rue de la Paix"
PLAIN, PEER, OURS, KEPT = "a text", "SQLAlchemy-Utils, one key", "SealedText, a key a row", "the same, keys remembered"


@dataclass(frozen=True, slots=True)
class ColumnTimes:
    """CPU microseconds a row of this process, a value per round."""

    written: list[float]
    read: list[float]


def time_columns(url: str, *, rows: int, rounds: int, peer: bool = True) -> dict[str, ColumnTimes]:
    """Write and read so many rows of each kind, in turns.

    Raises:
        MeasurementError: what was read is not what was written, or lies in the table as it was.
    """
    engine = create_engine(f"postgresql+psycopg://{url.split('://', 1)[1]}")
    base: Any = type("Base", (DeclarativeBase,), {})
    models = {PLAIN: _model(base, "plain", Text()), OURS: _model(base, "sealed", SealedText("person/{id}"))}
    if peer:
        models[PEER] = _model(base, "utils", _peer_type())
    base.metadata.create_all(engine)
    found = {name: ColumnTimes([], []) for name in (PLAIN, *([PEER] if peer else []), OURS, KEPT)}
    keys = SubjectKeys(LocalKeys([secrets.token_bytes(32)]))
    sessions = sessionmaker(engine)
    seal_sessions(sessions, keys)
    try:
        for _ in range(rounds + 1):  # the first one warms up
            for name, model in models.items():
                found[name].written.append(_write(sessions, model, rows))
                seal_sessions(sessions, SubjectKeys(keys.wrapper, keep_seconds=0))
                found[name].read.append(_read(sessions, model, rows))
                seal_sessions(sessions, keys)
            _read(sessions, models[OURS], rows)  # by which the keys are remembered
            found[KEPT].read.append(_read(sessions, models[OURS], rows))
        _check(engine, models[OURS])
    finally:
        engine.dispose()
    return {name: ColumnTimes(one.written[1:], one.read[1:]) for name, one in found.items()}


def _model(base: Any, table: str, type_: Any) -> Any:
    columns = {
        "__tablename__": table,
        "__annotations__": {"id": Mapped[int], "said": Mapped[str]},
        "id": mapped_column(primary_key=True),
        "said": mapped_column(type_),
    }
    return type(table.title(), (base,), columns)


def _peer_type() -> Any:
    # Only in the benchmarks' own environment.
    from sqlalchemy_utils import StringEncryptedType
    from sqlalchemy_utils.types.encrypted.encrypted_type import AesGcmEngine

    return StringEncryptedType(Text, secrets.token_hex(16), AesGcmEngine)


def _write(sessions: Any, model: Any, rows: int) -> float:
    with sessions() as orm:
        orm.execute(delete(model))
        orm.commit()
        began = time.process_time()
        orm.add_all(model(said=TEXT) for _ in range(rows))
        orm.commit()
        return (time.process_time() - began) * 1e6 / rows


def _read(sessions: Any, model: Any, rows: int) -> float:
    with sessions() as orm:
        began = time.process_time()
        texts = [row.said for row in orm.scalars(select(model))]
        took = time.process_time() - began
    if texts != [TEXT] * rows:
        raise MeasurementError(f"{model.__tablename__}: what was read is not what was written")
    return took * 1e6 / rows


def _check(engine: Engine, model: Any) -> None:
    with engine.connect() as connection:
        (stored,) = connection.exec_driver_sql(f"SELECT said FROM {model.__tablename__} LIMIT 1").one()  # noqa: S608
    if TEXT.encode()[:8] in bytes(stored):
        raise MeasurementError("a sealed column has the text")


def table(found: dict[str, ColumnTimes]) -> str:
    """The figures."""
    lines = [f"{'CPU us a row':<34}{'written':>9}{'x text':>8}{'read':>9}{'x text':>8}"]
    for name, one in found.items():
        written = f"{_median(one.written):>9.0f}{_over(found, name).written:>8.2f}" if one.written else " " * 17
        lines.append(f"{name:<34}{written}{_median(one.read):>9.1f}{_over(found, name).read:>8.2f}")
    return "\n".join(lines)


def claims(found: dict[str, ColumnTimes]) -> Sequence[Claim]:
    """What is claimed beside the peer; nothing without it."""
    if PEER not in found:
        return []
    return [
        Claim("audit-sealed-column-read-over-peer", _median(found[KEPT].read) / _median(found[PEER].read), 1, "<"),
        Claim(
            "audit-sealed-column-written-over-peer", _median(found[OURS].written) / _median(found[PEER].written), 1, "<"
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Ratios:
    written: float
    read: float


def _over(found: dict[str, ColumnTimes], name: str) -> _Ratios:
    one, plain = found[name], found[PLAIN]
    written = _median(one.written) / _median(plain.written) if one.written else 0.0
    return _Ratios(written, _median(one.read) / _median(plain.read))


def _median(values: list[float]) -> float:
    return Spread.of(values).median
