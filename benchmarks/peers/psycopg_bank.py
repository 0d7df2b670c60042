"""The bank's transfer in FastAPI and psycopg, without Workhorse: one call of the bank's own SQL function a request.

It is as fast as one transaction a request can be made in this framework and driver: the connection is in autocommit
mode, so the call is the transaction, in a single round trip. A request that is retried pays twice, nothing guards the
way in, and nothing is measured or logged. The difference to the bank is what Workhorse costs.

    DATABASE_URL=postgresql://... granian --interface asgi peers.psycopg_bank:app
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.orders import Transfer, TransferOrder

__all__ = ["app"]

POST: Final = b"SELECT outcome, transfer, at FROM bank.post_transfer(%s, %s, %s, %s, %s)"
CONFLICTS: Final = frozenset({"insufficient_funds"})

Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Hold the pool while the app serves."""
    pool: Pool = AsyncConnectionPool(
        os.environ["DATABASE_URL"], min_size=16, max_size=16, kwargs={"autocommit": True}, open=False
    )
    async with pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/transfers", status_code=201)
async def post_transfer(order: TransferOrder, request: Request) -> Transfer:
    """Move money from one account to another."""
    pool: Pool = request.app.state.pool
    async with pool.connection() as connection:
        cursor = await connection.execute(
            POST, (order.debtor, order.creditor, order.currency, order.amount, order.reference)
        )
        ((outcome, transfer, posted_at),) = await cursor.fetchall()
    if outcome != "posted":
        raise HTTPException(409 if outcome in CONFLICTS else 422, outcome)
    return Transfer(
        id=transfer,
        debtor=order.debtor,
        creditor=order.creditor,
        currency=order.currency,
        amount=order.amount,
        reference=order.reference,
        reverses=None,
        posted_at=posted_at,
    )
