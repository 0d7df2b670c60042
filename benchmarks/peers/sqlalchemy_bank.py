"""The bank's transfer the ordinary way: FastAPI, the async ORM of SQLAlchemy 2, and a session a request.

What a careful team writes without Workhorse: the accounts are locked in the order of their ids, so that two transfers
cannot wait for each other; the rules are checked under the lock, and the limits of a balance by the database too; each
transfer has its two entries; the reply is sent after the commit. There is no Idempotency-Key and no guard.

    export DATABASE_URL=postgresql+asyncpg://...
    python -m benchmarks.peers.sqlalchemy_bank          makes the tables
    granian --interface asgi peers.sqlalchemy_bank:app
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Final

from fastapi import Depends, FastAPI, HTTPException, Request
from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Identity, Index, String, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.peers.orders import LARGEST, Transfer, TransferOrder

__all__ = ["app"]

POOL: Final = 16


class Base(DeclarativeBase):
    """The tables of the ledger."""


class AccountRow(Base):
    """An account and its balance in minor units."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("balance >= floor", name="accounts_floor"),
        CheckConstraint(f"balance <= {LARGEST}", name="accounts_ceiling"),
        # Room for the next version of each row on its page, as the bank has it.
        {"postgresql_with": {"fillfactor": 50}},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    owner: Mapped[str] = mapped_column(String(140))
    currency: Mapped[str] = mapped_column(String(3))
    balance: Mapped[int] = mapped_column(BigInteger, server_default="0")
    floor: Mapped[int] = mapped_column(BigInteger, server_default="0")


class TransferRow(Base):
    """A posted transfer."""

    __tablename__ = "transfers"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    debtor: Mapped[int] = mapped_column(BigInteger, ForeignKey("accounts.id"))
    creditor: Mapped[int] = mapped_column(BigInteger, ForeignKey("accounts.id"))
    currency: Mapped[str] = mapped_column(String(3))
    amount: Mapped[int] = mapped_column(BigInteger, CheckConstraint("amount > 0"))
    reference: Mapped[str] = mapped_column(String(140))
    posted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


class EntryRow(Base):
    """One leg of a transfer. The pair is the key, so that no id has to be fetched for it."""

    __tablename__ = "entries"
    __table_args__ = (Index("entries_by_account", "account", "transfer"),)

    transfer: Mapped[int] = mapped_column(BigInteger, ForeignKey("transfers.id"), primary_key=True)
    account: Mapped[int] = mapped_column(BigInteger, ForeignKey("accounts.id"), primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Hold the engine while the app serves."""
    engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=POOL, max_overflow=0)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def open_session(request: Request) -> AsyncGenerator[AsyncSession]:
    """The request's session. What is not committed is rolled back at the end."""
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    async with sessions() as session:
        yield session


@app.post("/transfers", status_code=201)
async def post_transfer(order: TransferOrder, session: Annotated[AsyncSession, Depends(open_session)]) -> Transfer:
    """Move money from one account to another."""
    if order.debtor == order.creditor:
        raise HTTPException(422, "debtor and creditor are the same account")
    wanted = select(AccountRow).where(AccountRow.id.in_((order.debtor, order.creditor)))
    locked = await session.scalars(wanted.order_by(AccountRow.id).with_for_update(key_share=True))
    accounts = {account.id: account for account in locked}
    debtor, creditor = accounts.get(order.debtor), accounts.get(order.creditor)
    if debtor is None or creditor is None:
        raise HTTPException(422, "an account does not exist")
    if debtor.currency != order.currency or creditor.currency != order.currency:
        raise HTTPException(422, "an account is kept in another currency")
    if debtor.balance - order.amount < debtor.floor:
        raise HTTPException(409, "the debtor's balance does not cover the amount")
    if creditor.balance + order.amount > LARGEST:
        raise HTTPException(422, "the creditor's balance would be too large")
    debtor.balance -= order.amount
    creditor.balance += order.amount
    transfer = TransferRow(
        debtor=debtor.id,
        creditor=creditor.id,
        currency=order.currency,
        amount=order.amount,
        reference=order.reference,
    )
    session.add(transfer)
    await session.flush()
    session.add_all(
        [
            EntryRow(transfer=transfer.id, account=debtor.id, amount=-order.amount),
            EntryRow(transfer=transfer.id, account=creditor.id, amount=order.amount),
        ]
    )
    await session.commit()
    return Transfer(
        id=transfer.id,
        debtor=order.debtor,
        creditor=order.creditor,
        currency=order.currency,
        amount=order.amount,
        reference=order.reference,
        reverses=None,
        posted_at=transfer.posted_at,
    )


async def make_tables() -> None:
    """Make the tables in the database that DATABASE_URL names."""
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(make_tables())
