"""The bank over HTTP: the real server, started as a user starts it, and called with tokens of its own issuer."""

import asyncio
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psycopg
import pytest

from bank.callers import AUDITOR_SCOPES, TELLER_SCOPES
from bank.pain001 import MAX_BYTES
from tests.bank.ledgers import faults_of_the_books, funded
from tests.bank.paymentfiles import File, Payment, Transaction
from workhorse.cli.check import read
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.guard.controls import RouteControls
from workhorse.identity import DevelopmentIssuer
from workhorse.settings import load_settings

DEADLINE_SECONDS = 60
PROJECT = Path(__file__).parents[2] / "examples" / "bank"
JSON, XML = "application/json", "application/xml"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The slug of the problem."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json["type"]).rpartition(":")[2]


class Bank(NamedTuple):
    """A running bank, with two funded accounts: `debtor` has 1,000 euros in cents, `creditor` nothing.

    It is called with `token`, which allows everything, unless another one is named; "" is nobody's.
    """

    url: str
    database: str
    token: str
    debtor: int
    creditor: int

    async def ask(
        self,
        method: str,
        path: str,
        *,
        order: object = None,
        body: bytes = b"",
        key: str = "",
        kind: str = JSON,
        token: str | None = None,
    ) -> Reply:
        headers = {"content-type": kind}
        if token or (token is None and self.token):
            headers["authorization"] = f"Bearer {token or self.token}"
        if key:
            headers["idempotency-key"] = key
        data = json.dumps(order).encode() if order is not None else body
        timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path, data=io.BytesIO(data) if data else None, headers=headers) as reply,
        ):
            lowered = {name.lower(): value for name, value in reply.headers.items()}
            return Reply(reply.status, lowered, await reply.read())

    def get(self, path: str, *, token: str | None = None) -> Reply:
        return asyncio.run(self.ask("GET", path, token=token))

    def post(self, path: str, order: object, key: str) -> Reply:
        return asyncio.run(self.ask("POST", path, order=order, key=key))

    def send_file(self, content: bytes, key: str, kind: str = XML) -> Reply:
        return asyncio.run(self.ask("POST", "/payments/pain001", body=content, key=key, kind=kind))

    def transfer(self, amount: int, key: str, *, debtor: int | None = None, creditor: int | None = None) -> Reply:
        order = {
            "debtor": self.debtor if debtor is None else debtor,
            "creditor": self.creditor if creditor is None else creditor,
            "currency": "EUR",
            "amount": amount,
        }
        return self.post("/transfers", order, key)

    def balance(self, account: int) -> int:
        balance: int = self.get(f"/accounts/{account}").json["balance"]
        return balance


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> tuple[DevelopmentIssuer, Path]:
    """The issuer whose tokens the bank takes, and the folder of its key."""
    folder = tmp_path_factory.mktemp("embedded")
    return DevelopmentIssuer(load_settings(PROJECT, embedded={"folder": folder})), folder


@pytest.fixture(scope="module")
def serving(
    servers: Attachment, issuer: tuple[DevelopmentIssuer, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The URLs of a running bank and of its database."""
    database = fresh_database(servers.database_url)
    log = tmp_path_factory.mktemp("bank") / "log"
    environment = {"DATABASE_URL": database, "WORKHORSE_EMBEDDED__FOLDER": str(issuer[1]), "PATH": "/usr/bin:/bin"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("workhorse"), "run", "bank.app:service", "--port", "0"],
            cwd=PROJECT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield await_address(process, log), database
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
            process.wait()
            drop_database(database)


def await_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server says where it is, and answers there."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        match = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if match is not None:
            bank = Bank(match[0], "", "", 0, 0)
            try:
                if bank.get("/-/ready").status == 200:
                    return match[0]
            except aiohttp.ClientError:
                pass  # it has not bound its port yet
        time.sleep(0.05)
    pytest.fail(f"the bank did not start:\n{log.read_text()}")


@pytest.fixture
def bank(serving: tuple[str, str], issuer: tuple[DevelopmentIssuer, Path]) -> Bank:
    url, database = serving
    token = issuer[0].mint("tester", scopes=(*TELLER_SCOPES, *AUDITOR_SCOPES))
    with psycopg.connect(database, autocommit=True) as ledger:
        found = ledger.execute("SELECT id FROM bank.accounts WHERE floor < 0 AND currency = 'EUR'").fetchone()
        debtor, creditor = funded(ledger, 100_000, 0, treasury=found[0] if found else None)
    return Bank(url, database, token, debtor, creditor)


@pytest.mark.parametrize("route", read(PROJECT / "controls.json").routes, ids=lambda route: route.route)
def test_each_route_is_open_to_those_whom_the_map_names_and_to_nobody_else(
    bank: Bank, issuer: tuple[DevelopmentIssuer, Path], route: RouteControls
) -> None:
    method, _, template = route.route.partition(" ")
    path = re.sub(r"\{\w+\}", "1", template)
    if template == "/live/transfers":
        method = "HEAD"  # a stream has no end; and a handshake has the policy of a GET

    def outcome(token: str) -> int:
        return asyncio.run(bank.ask(method, path, token=token)).status

    def minted(scopes: list[str]) -> str:
        return issuer[0].mint("somebody", scopes=scopes)

    if route.caller == "public":
        assert outcome("") in {200, 404}
        return
    others = {*TELLER_SCOPES, *AUDITOR_SCOPES} - set(route.scopes)
    assert route.scopes
    assert outcome("") == 401
    assert outcome(bank.token[:-8] + "A" * 8) == 401
    assert outcome(minted(sorted(others))) == 403
    assert outcome(minted(route.scopes)) not in {401, 403}


def test_an_account_is_opened_and_read(bank: Bank) -> None:
    opened = bank.post("/accounts", {"owner": "Ada", "currency": "KWD"}, "open-1")
    assert opened.status == 201
    assert opened.json["balance"] == 0
    assert bank.get(f"/accounts/{opened.json['id']}").json == opened.json
    assert bank.get("/accounts/999999999").problem == "account-not-found"


def test_a_transfer_moves_money_and_is_read_back(bank: Bank) -> None:
    posted = bank.transfer(2_500, "move-1")
    assert posted.status == 201
    assert bank.get(f"/transfers/{posted.json['id']}").json == posted.json
    assert (bank.balance(bank.debtor), bank.balance(bank.creditor)) == (97_500, 2_500)
    statement = bank.get(f"/accounts/{bank.creditor}/statement?limit=1").json
    assert statement["entries"] == [
        {
            "transfer": posted.json["id"],
            "counterparty": bank.debtor,
            "amount": 2_500,
            "balance": 2_500,
            "reference": "",
            "posted_at": posted.json["posted_at"],
        }
    ]


def test_a_retried_transfer_gets_the_first_reply_and_pays_once(bank: Bank) -> None:
    first, second = bank.transfer(100, "retry-1"), bank.transfer(100, "retry-1")
    assert first.status == 201
    assert (second.status, second.body) == (first.status, first.body)
    assert bank.balance(bank.creditor) == 100


def test_transfers_with_one_key_at_the_same_time_pay_once(bank: Bank) -> None:
    order = {"debtor": bank.debtor, "creditor": bank.creditor, "currency": "EUR", "amount": 7}

    async def at_once() -> list[Reply]:
        return await asyncio.gather(*[bank.ask("POST", "/transfers", order=order, key="rush-1") for _ in range(8)])

    replies = asyncio.run(at_once())
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body for reply in replies}) == 1
    assert bank.balance(bank.creditor) == 7


def test_a_retried_refusal_stays_refused_though_money_came_in(bank: Bank) -> None:
    refused = bank.transfer(50, "refuse-1", debtor=bank.creditor, creditor=bank.debtor)
    assert (refused.status, refused.problem) == (409, "insufficient-funds")
    assert bank.transfer(500, "refuse-2").status == 201
    again = bank.transfer(50, "refuse-1", debtor=bank.creditor, creditor=bank.debtor)
    assert (again.status, again.body) == (409, refused.body)
    assert bank.transfer(50, "refuse-3", debtor=bank.creditor, creditor=bank.debtor).status == 201


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/accounts", JSON),
        ("/transfers", JSON),
        ("/transfers/1/reversal", JSON),
        ("/standing-orders", JSON),
        ("/payments/pain001", XML),
    ],
)
def test_nothing_is_written_without_an_idempotency_key(bank: Bank, path: str, kind: str) -> None:
    reply = asyncio.run(bank.ask("POST", path, body=b"{}", kind=kind))
    assert (reply.status, reply.problem) == (400, "idempotency-key-missing")


def test_each_refusal_is_its_own_problem(bank: Bank) -> None:
    assert bank.transfer(1, "p-1", debtor=999_999_999).problem == "unknown-debtor"
    assert bank.transfer(1, "p-2", creditor=999_999_999).problem == "unknown-creditor"
    assert bank.transfer(1, "p-3", creditor=bank.debtor).problem == "same-account"
    assert bank.transfer(100_001, "p-4").problem == "insufficient-funds"
    dollars = bank.post("/accounts", {"owner": "Bob", "currency": "USD"}, "p-5").json["id"]
    assert bank.transfer(1, "p-6", creditor=dollars).problem == "currency-mismatch"


def test_an_order_that_is_no_order_is_told_where_it_is_wrong(bank: Bank) -> None:
    reply = bank.post("/transfers", {"debtor": 1, "creditor": 2, "currency": "EUR", "amount": 1.5, "fee": 1}, "wrong-1")
    assert reply.status == 422
    assert reply.headers["content-type"] == "application/problem+json"
    assert {error["pointer"].rpartition("/")[2] for error in reply.json["errors"]} == {"amount", "fee"}


def test_a_transfer_is_reversed_once(bank: Bank) -> None:
    transfer = bank.transfer(300, "back-1").json["id"]
    reversal = bank.post(f"/transfers/{transfer}/reversal", None, "back-2")
    assert (reversal.status, reversal.json["reverses"]) == (201, transfer)
    assert bank.balance(bank.debtor) == 100_000
    assert bank.post(f"/transfers/{transfer}/reversal", None, "back-3").problem == "already-reversed"
    assert bank.post(f"/transfers/{reversal.json['id']}/reversal", None, "back-4").problem == "is-reversal"
    assert bank.post("/transfers/999999999/reversal", None, "back-5").problem == "transfer-not-found"


def test_a_payment_file_is_taken_in_once(bank: Bank) -> None:
    wishes = [
        Transaction(end_to_end_id=f"E-{number}", amount="400.00", creditor=str(bank.creditor)) for number in range(3)
    ]
    payment = Payment(transactions=wishes, debtor=str(bank.debtor))
    content = File(payments=[payment], message_id=f"M-{bank.debtor}").xml()
    taken = bank.send_file(content, "file-1", "text/xml; charset=utf-8")
    assert taken.status == 201
    assert (taken.json["posted"], taken.json["refused"]) == (2, 1)
    assert [one["status"] for one in taken.json["transactions"]] == ["posted", "posted", "refused"]
    assert bank.send_file(content, "file-1", "text/xml; charset=utf-8").body == taken.body
    assert bank.send_file(content, "file-2").problem == "duplicate-message"
    assert bank.balance(bank.creditor) == 80_000


def test_a_malformed_payment_file_is_refused_with_all_its_faults(bank: Bank, samples: Path) -> None:
    reply = bank.send_file((samples / "malformed_many_faults.xml").read_bytes(), "file-3")
    assert (reply.status, reply.problem) == (422, "malformed-payment-file")
    assert len(reply.json["errors"]) == 15
    for sample in sorted(samples.glob("hostile_*.xml")):
        assert bank.send_file(sample.read_bytes(), f"file-{sample.stem}").problem == "malformed-payment-file"


def test_a_payment_file_that_is_no_xml_or_too_large_is_refused(bank: Bank) -> None:
    assert bank.send_file(b"{}", "file-4", JSON).problem == "unsupported-media-type"

    async def announce() -> bytes:
        """Send the head of a request only: the answer must not wait for the body."""
        host, _, port = bank.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /payments/pain001 HTTP/1.1\r\nhost: {host}\r\nidempotency-key: file-5\r\n"
        head += f"authorization: Bearer {bank.token}\r\n"
        writer.write(f"{head}content-type: text/xml\r\ncontent-length: {MAX_BYTES + 1}\r\n\r\n".encode())
        status = await asyncio.wait_for(reader.readline(), DEADLINE_SECONDS)
        writer.close()
        await writer.wait_closed()
        return status

    assert asyncio.run(announce()).split()[1] == b"413"


def test_the_largest_file_is_taken_in_at_once(bank: Bank) -> None:
    wishes = [
        Transaction(end_to_end_id=f"E-{number}", amount="0.01", creditor=str(bank.creditor)) for number in range(10_000)
    ]
    payment = Payment(transactions=wishes, debtor=str(bank.debtor))
    taken = bank.send_file(File(payments=[payment], message_id=f"L-{bank.debtor}").xml(), f"large-{bank.debtor}")
    assert (taken.status, taken.json["posted"]) == (201, 10_000)
    assert bank.balance(bank.creditor) == 10_000


def eventually(ask: Callable[[], Reply], until: Callable[[Reply], bool]) -> Reply:
    """Ask until a job has done its work."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not until(reply := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return reply


def test_the_creditor_is_advised_by_a_job_that_follows_from_the_transfer(bank: Bank) -> None:
    transfer = bank.transfer(1_200, "advice-1").json["id"]
    reply = eventually(lambda: bank.get(f"/transfers/{transfer}/advice"), lambda reply: reply.status == 200)
    assert (reply.json["account"], reply.json["amount"], reply.json["payer"]) == (bank.creditor, 1_200, "somebody")
    assert bank.get("/transfers/999999999/advice").problem == "advice-not-found"


def test_the_event_of_a_batched_transfer_names_its_own_caller(
    bank: Bank, issuer: tuple[DevelopmentIssuer, Path]
) -> None:
    order = {"debtor": bank.debtor, "creditor": bank.creditor, "currency": "EUR", "amount": 7}
    callers = [f"caller-{number}" for number in range(6)]
    tokens = [issuer[0].mint(caller, scopes=TELLER_SCOPES) for caller in callers]

    async def at_once() -> list[Reply]:
        return await asyncio.gather(
            *[
                bank.ask("POST", "/transfers", order=order, key=f"named-{number}", token=token)
                for number, token in enumerate(tokens)
            ]
        )

    posted = {str(reply.json["id"]): caller for reply, caller in zip(asyncio.run(at_once()), callers, strict=True)}
    with psycopg.connect(bank.database) as journal:
        rows = journal.execute(
            "SELECT subject, principal, data ->> 'amount' FROM workhorse.events"
            " WHERE type = 'transfer.posted' AND subject = ANY (%s)",
            (list(posted),),
        ).fetchall()
    assert len(rows) == len(posted)
    assert all(principal.endswith(posted[subject]) for subject, principal, _ in rows)
    assert {amount for *_, amount in rows} == {"7"}


def test_a_retried_or_refused_transfer_is_announced_no_more_than_it_is_posted(bank: Bank) -> None:
    def announced() -> int:
        with psycopg.connect(bank.database) as journal:
            row = journal.execute(
                "SELECT count(*) FROM workhorse.events WHERE (data ->> 'debtor')::bigint = %s", (bank.debtor,)
            ).fetchone()
        assert row is not None
        return int(row[0])

    assert [bank.transfer(3, "once-told").status for _ in range(3)] == [201, 201, 201]
    assert bank.transfer(100_001, "never-told").status == 409
    assert announced() == 1


def test_who_looks_at_a_statement_or_opens_an_account_is_written_down(bank: Bank) -> None:
    assert bank.get(f"/accounts/{bank.debtor}/statement").status == 200
    opened = bank.post("/accounts", {"owner": "Ann Audited", "currency": "EUR"}, "written-down")
    assert opened.status == 201
    with psycopg.connect(bank.database) as journal:
        rows = journal.execute(
            "SELECT type, subject, data ->> 'action', data::text FROM workhorse.events"
            " WHERE type IN ('audit.read', 'audit.write') AND subject IN (%s, %s)",
            (f"account/{bank.debtor}", f"account/{opened.json['id']}"),
        ).fetchall()
    assert ("audit.read", f"account/{bank.debtor}", "account.statement") in {row[:3] for row in rows}
    assert ("audit.write", f"account/{opened.json['id']}", "account.opening") in {row[:3] for row in rows}
    assert "Ann Audited" not in str(rows)


def test_a_standing_order_is_taken_read_and_ended(bank: Bank) -> None:
    today = datetime.now(UTC).date()
    wish = {"debtor": bank.debtor, "creditor": bank.creditor, "currency": "EUR", "amount": 100, "every": "month"}
    opened = bank.post("/standing-orders", {**wish, "starts": f"{today + timedelta(days=2)}"}, "standing-1")
    assert opened.status == 201
    path = f"/standing-orders/{opened.json['id']}"
    assert bank.get(path).json == opened.json
    ended = asyncio.run(bank.ask("DELETE", path))
    assert (ended.status, ended.json) == (200, {**opened.json, "due": None})
    late = {**wish, "starts": f"{today - timedelta(days=1)}"}
    assert bank.post("/standing-orders", late, "standing-3").problem == "starts-in-the-past"
    astray = {**wish, "starts": f"{today}", "creditor": 999_999_999}
    assert bank.post("/standing-orders", astray, "standing-4").problem == "unknown-creditor"
    assert bank.post("/standing-orders", {**wish, "starts": 4_102_444_800}, "standing-2").status == 422
    assert bank.get("/standing-orders/999999999").problem == "standing-order-not-found"


def test_a_day_that_is_not_over_has_no_report(bank: Bank) -> None:
    today = datetime.now(UTC).date()
    assert bank.get(f"/reports/{today}").problem == "report-not-found"
    assert bank.get(f"/reports/{today}/pages/1").problem == "page-not-found"
    assert bank.get("/reports/2026-02-30").status == 422


def test_the_books_are_counted_once_a_second_however_many_ask(bank: Bank) -> None:
    async def ask() -> set[float]:
        replies = await asyncio.gather(*(bank.ask("GET", "/books") for _ in range(20)))
        return {reply.json["at"] for reply in replies}

    assert len(asyncio.run(ask())) <= 3
    before = bank.get("/books").json["at"]
    assert eventually(lambda: bank.get("/live"), lambda reply: reply.json["at"] > before).json["at"] > before


def test_the_books_balance_after_all_of_it(bank: Bank) -> None:
    bank.transfer(1, "books-1")
    books, audit, live = (bank.get(path).json for path in ("/books", "/books/audit", "/live"))
    assert books["balanced"]
    assert audit["balanced"]
    assert live["balanced"]
    assert live["transfers"] >= books["transfers"] > 0
    assert set(live["latency"]) == {"p50", "p99"}
    with psycopg.connect(bank.database, autocommit=True) as ledger:
        assert faults_of_the_books(ledger) == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/charts.js", "text/javascript"),
        ("/vendor/uPlot.iife.min.js", "text/javascript"),
        ("/vendor/uPlot.min.css", "text/css"),
        ("/page.css", "text/css"),
        ("/page.svg", "image/svg+xml"),
    ],
)
def test_the_page_is_served_under_a_policy_that_allows_nothing_inline(bank: Bank, path: str, kind: str) -> None:
    reply = bank.get(path, token="")
    assert reply.status == 200
    assert reply.headers["content-type"].partition(";")[0] == kind
    policy = reply.headers["content-security-policy"]
    assert policy.startswith(("default-src 'self';", "default-src 'none';"))
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy


def test_the_page_asks_for_nothing_from_elsewhere_and_has_nothing_inline(bank: Bank) -> None:
    page = bank.get("/", token="").body.decode()
    assert not re.search(r"https?://|style=|<style| on\w+=|<script(?! src=\"/[\w./]+\.js\" defer></script>)", page)
    for path in re.findall(r"(?:src|href)=\"([^\"]+)\"", page):
        assert bank.get(path, token="").status == 200
    script = bank.get("/page.js").body.decode() + bank.get("/charts.js").body.decode()
    for name in set(re.findall(r"(?:element|say|text|getElementById)\(\s*\"(\w+)\"", script)):
        assert f'id="{name}"' in page
