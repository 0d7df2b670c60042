"""Swagger UI's Authorize, with the ways to prove who calls that a service has, under the guard's policy."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response

from tests.browser.chromium import Page
from tests.browser.sites import serving
from workhorse import Policy
from workhorse.guard import Guard
from workhorse.identity import Bearer, DevelopmentIssuer, Identity
from workhorse.integrations import adopt, describe
from workhorse.integrations.openapi import Facts
from workhorse.policy import PolicyTable
from workhorse.settings import GuardSettings, Settings, load_settings

pytestmark = pytest.mark.browser

POLICIES = (
    Policy("POST /transfers", scope="transfers:write", idempotent="required"),
    Policy("GET /{page:path}", public=True),
)
STATUS = "document.querySelector('.live-responses-table .response .response-col_status')?.innerText"


@pytest.fixture
def sites() -> Iterator[ExitStack]:
    """Whatever is served during a test."""
    with ExitStack() as stack:
        yield stack


def a_bank(settings: Settings, seen: list[tuple[str, str | None]]) -> Guard:
    api = FastAPI()

    @api.post("/transfers")
    async def transfer(request: Request) -> str:
        seen.append((request.user.subject, request.headers.get("idempotency-key")))
        return "posted"

    @api.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(status_code=204)

    identity = Identity(Bearer(settings=settings))
    adopt(api)
    describe(api, Facts(policies=PolicyTable(POLICIES), identity=identity, settings=lambda: settings))
    return Guard(api, settings=GuardSettings(), policies=POLICIES, identity=identity)


def type_into(page: Page, selector: str, text: str) -> None:
    page.click(selector)
    page.call("Input.insertText", text=text)


def test_a_token_that_is_pasted_in_is_sent_with_the_key_of_the_request(
    page: Page, sites: ExitStack, tmp_path: Path
) -> None:
    settings = load_settings(tmp_path)
    token = DevelopmentIssuer(settings).mint("alice", scopes=["transfers:write"])
    seen: list[tuple[str, str | None]] = []
    page.open(sites.enter_context(serving(a_bank(settings, seen))) + "/docs")

    page.click(".opblock-post .opblock-summary-control")
    page.click(".opblock-post .try-out__btn")
    type_into(page, "tr[data-param-name='Idempotency-Key'] input", "once")
    page.click(".opblock-post .execute")
    page.wait_until(f"{STATUS}?.startsWith('401')")
    assert seen == []

    page.click(".scheme-container .authorize")
    page.wait_until("document.querySelector('.auth-container')?.innerText.includes('workhorse token alice')")
    type_into(page, ".auth-container input", token)
    page.click(".auth-container .modal-btn.authorize")
    page.wait_until("document.querySelector('.auth-container')?.innerText.includes('Logout')")
    page.click(".auth-container .btn-done")
    page.click(".opblock-post .execute")
    page.wait_until(f"{STATUS}?.startsWith('200')")
    assert seen == [("alice", "once")]
    assert [said for said in page.complaints if "401" not in said] == []
