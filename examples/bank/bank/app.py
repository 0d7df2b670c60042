"""The bank: every route, each as short as its story. `workhorse run bank.app:service` serves it.

The rules are in the database (sql/migrations), which the books trust, and the words in the modules beside this one.
What is not here, because Workhorse does it: the transaction and its commit before the reply, the answer to a retried
request, the repetition after a deadlock, the limits on what comes in, who calls and how often, and the problem
documents. What each route asks of it is the table at the end; `workhorse check bank.app:service` prints it.
"""

import asyncio
import math
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Final

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel

from bank import accounts, advices, books, figures, pain001, payments, reports, standing_orders, transfers
from bank.accounts import Account, AccountOrder, Statement
from bank.advices import Advice
from bank.books import Audit, Books
from bank.days import Day
from bank.payments import PaymentReport
from bank.privacy import PRIVACY
from bank.problems import (
    AccountNotFound,
    AdviceNotFound,
    CurrencyMismatch,
    DuplicateMessage,
    MalformedPaymentFile,
    PageNotFound,
    ReportNotFound,
    SameAccount,
    StandingOrderNotFound,
    StartsInThePast,
    TransferNotFound,
    UnknownCreditor,
    UnknownDebtor,
)
from bank.reports import Report
from bank.standing_orders import OrderForStanding, StandingOrder
from bank.transfers import REFUSALS, REVERSAL_REFUSALS, Transfer, TransferOrder
from workhorse import Audit as Recorded
from workhorse import Policy, Rate, Service, unit
from workhorse.caching import Caches
from workhorse.identity import Bearer
from workhorse.integrations.live import live_routes
from workhorse.integrations.openapi import problem_replies
from workhorse.migrations import Migrations

__all__ = ["BANK_MIGRATIONS", "POLICIES", "Latency", "Live", "api", "caches", "latency", "service"]

BANK_MIGRATIONS: Final = Migrations(name="bank", package="bank", folder="sql/migrations")

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]

LIBRARY: Final[Mapping[str, str]] = MappingProxyType(
    {"uPlot.iife.min.js": "text/javascript; charset=utf-8", "uPlot.min.css": "text/css; charset=utf-8"}
)
"""The files of other people's that the page needs, and what they are."""

caches: Final = Caches()
counted: Final = books.open_cache(caches)

api = FastAPI(title="Workhorse Bank", version="1", redoc_url=None, swagger_ui_oauth2_redirect_url=None)


@api.post("/accounts", status_code=201)
async def open_account(order: AccountOrder) -> Account:
    """Open an empty account."""
    return await accounts.open_account(await unit(), order)


@api.get("/accounts/{account}", responses=problem_replies(AccountNotFound))
async def read_account(account: Id) -> Account:
    """Read an account and its balance."""
    return await accounts.find(await unit(), account)


@api.get("/accounts/{account}/statement", responses=problem_replies(AccountNotFound))
async def read_statement(
    account: Id,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Statement:
    """Read an account's entries, newest first, each with the balance after it."""
    return await accounts.statement(await unit(), account, limit=limit, before=before)


@api.post("/transfers", status_code=201, responses=problem_replies(*REFUSALS.values()))
async def post_transfer(order: TransferOrder) -> Transfer:
    """Move money from one account to another."""
    return await transfers.post_one(order)


@api.get("/transfers/{transfer}", responses=problem_replies(TransferNotFound))
async def read_transfer(transfer: Id) -> Transfer:
    """Read a posted transfer."""
    return await transfers.find(await unit(), transfer)


@api.post("/transfers/{transfer}/reversal", status_code=201, responses=problem_replies(*REVERSAL_REFUSALS.values()))
async def reverse_transfer(transfer: Id) -> Transfer:
    """Take a transfer back, once."""
    return await transfers.reverse(await unit(), transfer)


@api.get("/transfers/{transfer}/advice", responses=problem_replies(AdviceNotFound))
async def read_advice(transfer: Id) -> Advice:
    """Read what the creditor of a transfer was told."""
    return await advices.find(await unit(), transfer)


@api.post(
    "/standing-orders",
    status_code=201,
    responses=problem_replies(UnknownDebtor, UnknownCreditor, SameAccount, CurrencyMismatch, StartsInThePast),
)
async def open_standing_order(order: OrderForStanding) -> StandingOrder:
    """Have money moved on each of the days to come."""
    return await standing_orders.open_order(await unit(), order)


@api.get("/standing-orders/{order}", responses=problem_replies(StandingOrderNotFound))
async def read_standing_order(order: Id) -> StandingOrder:
    """Read a standing order, and what became of it on its latest days."""
    return await standing_orders.find(await unit(), order)


@api.delete("/standing-orders/{order}", responses=problem_replies(StandingOrderNotFound))
async def end_standing_order(order: Id) -> StandingOrder:
    """End a standing order."""
    return await standing_orders.end(await unit(), order)


@api.post("/payments/pain001", status_code=201, responses=problem_replies(MalformedPaymentFile, DuplicateMessage))
async def take_in_payments(request: Request) -> PaymentReport:
    """Take in a file of credit transfers (ISO 20022 pain.001) and say what became of each."""
    try:
        # In a thread: ten thousand transactions take a second to read, and other requests must not wait for it.
        file = await asyncio.to_thread(pain001.parse, await request.body())
    except pain001.FileFaults as error:
        raise MalformedPaymentFile(faults=error.faults) from error
    return await payments.take_in(await unit(), file)


@api.get("/books")
async def read_books() -> Books:
    """Read what the bank holds and has moved."""
    return await books.read(counted)


@api.get("/books/audit")
async def audit_books() -> Audit:
    """Prove every balance from the journal."""
    return await books.audit(await unit())


@api.get("/reports/{day}", responses=problem_replies(ReportNotFound))
async def read_report(day: Day) -> Report:
    """Read the report of a day that is over."""
    return await reports.find(await unit(), day)


@api.get("/reports/{day}/pages/{page}", response_class=Response, responses=problem_replies(PageNotFound))
async def read_report_page(day: Day, page: Annotated[int, Path(ge=1, le=reports.MOST_PAGES)]) -> Response:
    """Read a page of the file of all entries of a day, as CSV."""
    return Response(await reports.find_page(await unit(), day, page), media_type="text/csv")


class Latency(BaseModel):
    """How long it took to answer POST /transfers, in milliseconds; null while nothing was measured."""

    p50: float | None = None
    p99: float | None = None


class Live(Books):
    """The books and the pace, for the page."""

    latency: Latency


@api.get("/live")
async def live() -> Live:
    """What the page shows, asked for each second."""
    return Live(**dict(await books.read(counted)), latency=latency())


def latency() -> Latency:
    """Ask the service's own metrics, which are those of all workers, how fast it is."""

    def milliseconds(quantile: float) -> float | None:
        seconds = service.metrics.quantile(
            "http_server_request_duration_seconds", quantile, method="POST", route="/transfers"
        )
        return None if math.isnan(seconds) else round(seconds * 1000, 2)

    return Latency(p50=milliseconds(0.5), p99=milliseconds(0.99))


@api.get("/", include_in_schema=False)
async def page() -> Response:
    """The live page."""
    return _static("index.html", "text/html; charset=utf-8")


@api.get("/page.js", include_in_schema=False)
async def page_script() -> Response:
    """The page's script."""
    return _static("page.js", "text/javascript; charset=utf-8")


@api.get("/charts.js", include_in_schema=False)
async def page_charts() -> Response:
    """The script of the page's charts."""
    return _static("charts.js", "text/javascript; charset=utf-8")


@api.get("/page.css", include_in_schema=False)
async def page_style() -> Response:
    """The page's style."""
    return _static("page.css", "text/css; charset=utf-8")


@api.get("/page.svg", include_in_schema=False)
async def page_icon() -> Response:
    """The page's icon."""
    return _static("page.svg", "image/svg+xml")


@api.get("/vendor/{name}", include_in_schema=False)
async def page_library(name: str) -> Response:
    """What draws the page's charts (uPlot, whose licence lies beside it)."""
    if name not in LIBRARY:
        raise HTTPException(404)
    return _static(f"vendor/{name}", LIBRARY[name])


api.router.routes += live_routes("/live/transfers", figures.stream)


def _static(name: str, media_type: str) -> Response:
    content = files("bank").joinpath("page", name).read_bytes()
    return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})


JSON: Final = ("application/json",)
XML: Final = ("application/xml", "text/xml")
VISITORS: Final = Rate("6000/minute", per="address")
PAGE_PATHS: Final = ("/", "/page.js", "/charts.js", "/page.css", "/page.svg", "/vendor/{name}")
OPEN_PATHS: Final = (*PAGE_PATHS, "/docs", "/docs/swagger-ui/{name}", "/openapi.json")

# A policy knows the route and the caller, not whose an account is. Here the callers are tellers, who act for every
# customer, so a scope is all it takes. Routes for the customers themselves would compare the account's owner with
# `current_request().principal.subject`, in the same statement that reads or moves the money.
POLICIES: Final = (
    Policy(
        "POST /accounts",
        scope="accounts:write",
        rate="600/minute",
        idempotent="required",
        content_types=JSON,
        audit=Recorded("account.opening", subject="account/{reply.id}"),
    ),
    Policy("GET /accounts/{account}", scope="accounts:read", rate="6000/minute"),
    # Who looks at what a customer has paid is written down before it is seen.
    Policy(
        "GET /accounts/{account}/statement",
        scope="accounts:read",
        rate="6000/minute",
        priority="low",
        audit=Recorded("account.statement", subject="account/{account}", fail_closed=True),
    ),
    Policy(
        "POST /transfers",
        scope="transfers:write",
        rate="100000/minute",
        idempotent="required",
        batched=True,
        fast=True,
        content_types=JSON,
        priority="critical",
    ),
    Policy("GET /transfers/{transfer}", scope="transfers:read", rate="6000/minute"),
    Policy(
        "POST /transfers/{transfer}/reversal",
        scope="transfers:write",
        rate="6000/minute",
        idempotent="required",
        priority="critical",
        audit=Recorded("transfer.reversal", subject="{transfer}"),
    ),
    Policy("GET /transfers/{transfer}/advice", scope="transfers:read", rate="6000/minute"),
    Policy(
        "POST /standing-orders",
        scope="standing-orders:write",
        rate="600/minute",
        idempotent="required",
        content_types=JSON,
        audit=Recorded("standing-order.opening", subject="account/{body.debtor}"),
    ),
    Policy("GET /standing-orders/{order}", scope="standing-orders:read", rate="6000/minute"),
    Policy(
        "DELETE /standing-orders/{order}",
        scope="standing-orders:write",
        rate="600/minute",
        audit=Recorded("standing-order.end", subject="standing-order/{order}"),
    ),
    Policy(
        "POST /payments/pain001",
        scope="payments:write",
        rate="60/minute",
        idempotent="required",
        content_types=XML,
        max_body_bytes=pain001.MAX_BYTES,
        deadline=120,  # ten thousand transfers take seconds, and on a busy day longer
        audit=Recorded("payments.file", subject="payments"),
    ),
    Policy("GET /books", scope="books:read", rate="600/minute"),
    Policy("GET /books/audit", scope="books:read", rate="60/minute", priority="low"),
    Policy("GET /reports/{day}", scope="reports:read", rate="600/minute"),
    Policy("GET /reports/{day}/pages/{page}", scope="reports:read", rate="600/minute", priority="low"),
    # Sums over all customers, and nothing of a single one.
    Policy("GET /live", public=True, rate=VISITORS, priority="low"),
    Policy("GET /live/transfers", public=True, rate=VISITORS, priority="low"),
    *(Policy(f"GET {path}", public=True, rate=VISITORS, priority="low") for path in OPEN_PATHS),
)

service = Service(
    api,
    identity=Bearer(),
    policies=POLICIES,
    migrations=[BANK_MIGRATIONS],
    jobs=[
        advices.write_advices,
        standing_orders.pay_standing_orders,
        reports.close_days,
        reports.report_day,
    ],
    schedules=[standing_orders.PAYING, reports.CLOSING],
    events=[advices.POSTED, reports.DAY_CLOSED],
    privacy=PRIVACY,
    feeds=figures.measures.feeds,
    live=figures.live,
    caches=caches,
)
