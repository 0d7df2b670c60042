"""The load generator against real sockets: what it counts is what was answered."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable

import pytest

from benchmarks.load.generator import generate, prepare_moulds
from benchmarks.load.messages import MEASURED, MEASURING, AccountRange, LoadPlan, LoadResult
from benchmarks.load.wire import BadReply

EUROS = AccountRange("EUR", first=6, step=5, count=10)
POUNDS = AccountRange("GBP", first=7, step=5, count=10)
CREATED = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}"


class Bank:
    """Answers each request with what `reply` says, and remembers the requests' bodies."""

    def __init__(self, reply: Callable[[int], bytes]) -> None:
        self._reply = reply
        self.orders: list[dict[str, object]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.orders.append(json.loads(await reader.readexactly(length)))
                reply = self._reply(len(self.orders))
                if not reply:
                    break
                # In two pieces, as a network may deliver it.
                writer.write(reply[:10])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(reply[10:])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def load(bank: Bank, *, connections: int = 4, seconds: float = 0.2) -> LoadResult:
    async def main() -> LoadResult:
        server = await asyncio.start_server(bank.serve, "127.0.0.1", 0)
        async with server:
            plan = LoadPlan(
                host="127.0.0.1",
                port=server.sockets[0].getsockname()[1],
                connections=connections,
                warmup_seconds=0.05,
                seconds=seconds,
                accounts=(EUROS, POUNDS),
            )
            result = await generate(plan)
            await asyncio.sleep(0.05)  # for the bank's connections to end
        return result

    return asyncio.run(main())


def test_every_acknowledged_transfer_is_one_that_the_server_has_taken(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    bank = Bank(lambda _: CREATED)
    result = load(bank)
    assert result.acknowledged == len(bank.orders) == result.statuses[201]
    assert 0 < result.measured <= result.acknowledged
    assert 0 < result.p50_ms <= result.p99_ms
    assert capfdbinary.readouterr().out == MEASURING + MEASURED


def test_no_two_transfers_have_the_same_key() -> None:
    bank = Bank(lambda _: CREATED)
    load(bank)
    assert max(Counter(order["reference"] for order in bank.orders).values()) == 1


def test_other_replies_than_201_are_counted_and_not_acknowledged() -> None:
    bank = Bank(lambda number: CREATED if number % 2 else b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n")
    result = load(bank)
    assert result.acknowledged == result.statuses[201]
    assert sum(result.statuses.values()) == len(bank.orders)
    assert result.statuses[409] > 0


def test_a_server_that_hangs_up_ends_the_load() -> None:
    with pytest.raises(ConnectionError, match="hung up"):
        load(Bank(lambda number: CREATED if number < 20 else b""), seconds=30)


def test_a_server_that_says_more_than_it_was_asked_ends_the_load() -> None:
    with pytest.raises(BadReply, match="more than it was asked for"):
        load(Bank(lambda number: CREATED if number < 20 else CREATED + CREATED), seconds=30)


def test_transfers_are_between_different_accounts_of_one_currency() -> None:
    plan = LoadPlan(host="127.0.0.1", port=80, connections=1, warmup_seconds=0, seconds=1, accounts=(EUROS, POUNDS))
    accounts = {each.currency: {each.account(index) for index in range(each.count)} for each in (EUROS, POUNDS)}
    debtors: set[int] = set()
    for mould in prepare_moulds(plan, random.Random(1), 500):  # noqa: S311 - the same ones each time
        order = json.loads(mould.pour(b"0" * 32).partition(b"\r\n\r\n")[2])
        assert order["debtor"] != order["creditor"]
        assert {order["debtor"], order["creditor"]} <= accounts[order["currency"]]
        debtors.add(order["debtor"])
    assert debtors == accounts["EUR"] | accounts["GBP"]


def test_callers_take_turns() -> None:
    plan = LoadPlan(
        host="127.0.0.1", port=80, connections=1, warmup_seconds=0, seconds=1, accounts=(EUROS,), tokens=("a", "b", "c")
    )
    moulds = prepare_moulds(plan, random.Random(1), 6)  # noqa: S311 - the same ones each time
    senders = [mould.head.partition(b"authorization: Bearer ")[2].partition(b"\r\n")[0] for mould in moulds]
    assert senders == [b"a", b"b", b"c", b"a", b"b", b"c"]


def test_a_hot_account_takes_part_in_every_transfer_on_either_side() -> None:
    plan = LoadPlan(host="h", port=1, connections=1, warmup_seconds=0, seconds=0, accounts=(EUROS, POUNDS), hot=True)
    orders = [
        json.loads(mould.pour(b"0" * 32).partition(b"\r\n\r\n")[2])
        for mould in prepare_moulds(plan, random.Random(1), 200)  # noqa: S311 - no secret
    ]
    sides = Counter(order["debtor"] == EUROS.first for order in orders)
    assert all(EUROS.first in (order["debtor"], order["creditor"]) for order in orders)
    assert all(order["debtor"] != order["creditor"] and order["currency"] == "EUR" for order in orders)
    assert min(sides[True], sides[False]) > 50
