"""Three shops that take payments: one as it should be, and two with the bugs that a crash brings to light.

Each takes POST /payments with an amount and an Idempotency-Key, and keeps payments and a till.
"""

import os
from typing import Any

import psycopg
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from workhorse import Migrations, Policy, Service, unit
from workhorse.identity import Bearer

SCHEMA = """
CREATE TABLE payments (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount int NOT NULL, key text UNIQUE);
CREATE TABLE till (amount int NOT NULL);
CREATE TABLE seen (key text PRIMARY KEY, reply int NOT NULL);
INSERT INTO till VALUES (0);
"""
TABLES = Migrations.inline("shop", SCHEMA)


class Payment(BaseModel):
    amount: int


async def connect() -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"])


PAY = """
WITH filled AS (UPDATE till SET amount = amount + %(amount)s)
INSERT INTO payments (amount, key) VALUES (%(amount)s, %(key)s) RETURNING id
"""
NOTE = """
INSERT INTO payments (amount, key) VALUES (%(amount)s, %(key)s)
ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING id
"""


def right_shop() -> FastAPI:
    api = FastAPI(openapi_url=None)

    @api.post("/payments", status_code=201)
    async def pay(payment: Payment) -> dict[str, int]:
        work = await unit()
        await work.execute("UPDATE till SET amount = amount + %s", (payment.amount,))
        cursor = await work.execute("INSERT INTO payments (amount) VALUES (%s) RETURNING id", (payment.amount,))
        row = await cursor.fetchone()
        assert row is not None
        return {"id": row[0]}

    return api


def early_shop() -> FastAPI:
    """Answers, and then commits: a crash between the two loses a payment that the client was promised."""
    api = FastAPI(openapi_url=None)

    @api.post("/payments")
    async def pay(payment: Payment, idempotency_key: str = Header()) -> JSONResponse:
        connection = await connect()
        cursor = await connection.execute(NOTE, {"amount": payment.amount, "key": idempotency_key})
        row = await cursor.fetchone()
        assert row is not None

        async def finish() -> None:
            await connection.commit()
            await connection.close()

        return JSONResponse({"id": row[0]}, 201, background=BackgroundTask(finish))

    return api


def double_shop() -> FastAPI:
    """Looks the key up, pays, and then notes the key: a crash between the two, and a retry pays twice."""
    api = FastAPI(openapi_url=None)

    @api.post("/payments", status_code=201)
    async def pay(payment: Payment, idempotency_key: str = Header()) -> dict[str, int]:
        async with await connect() as connection:
            await connection.set_autocommit(True)
            row = await (
                await connection.execute("SELECT reply FROM seen WHERE key = %s", (idempotency_key,))
            ).fetchone()
            if row is None:
                cursor = await connection.execute(PAY, {"amount": payment.amount, "key": None})
                row = await cursor.fetchone()
                assert row is not None
                await connection.execute("INSERT INTO seen VALUES (%s, %s)", (idempotency_key, row[0]))
            return {"id": row[0]}

    return api


right = Service(right_shop(), policies=[Policy("POST /payments", idempotent="required")], migrations=[TABLES])
early = Service(early_shop(), migrations=[TABLES])
double = Service(double_shop(), migrations=[TABLES])
guarded = Service(
    right_shop(),
    policies=[Policy("POST /payments", scope="payments:write", idempotent=True)],
    migrations=[TABLES],
    identity=Bearer(),
)
