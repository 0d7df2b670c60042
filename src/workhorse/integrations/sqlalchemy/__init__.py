"""Columns of SQLAlchemy's models that are sealed by themselves, each row's under the key of the person it is about.

    class Patient(Base):
        __tablename__ = "patients"
        number: Mapped[str] = mapped_column(primary_key=True)
        phone: Mapped[Annotated[str, PERSONAL]] = mapped_column(SealedText("patient/{number}"))
        phone_index: Mapped[bytes | None] = mapped_column(BlindText(blind, of="phone"))

    service = Service(api, database=SQLAlchemyDatabase(engine), privacy=Privacy(keys, models=[Patient]))

The sessions of units seal and open them; `seal_sessions(sessionmaker, keys)` has other sessions do so. Needs the extras
`sqlalchemy` and `privacy`.
"""

from workhorse.integrations.sqlalchemy.columns import BlindText, ColumnNotSealed, SealedText
from workhorse.integrations.sqlalchemy.sealing import seal_sessions

__all__ = ["BlindText", "ColumnNotSealed", "SealedText", "seal_sessions"]
