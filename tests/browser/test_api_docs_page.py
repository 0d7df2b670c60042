"""The page of an API's operations, in a real browser, under the guard's policy and without the rest of the world."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated, Any
from urllib.parse import parse_qsl

import pytest
from fastapi import FastAPI, Request, Security
from fastapi.responses import RedirectResponse, Response
from fastapi.security import OAuth2AuthorizationCodeBearer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount

from tests.browser.chromium import Browser, Page
from tests.browser.sites import serving
from workhorse.asgi import ASGIApp
from workhorse.guard import Guard
from workhorse.integrations import adopt
from workhorse.settings import GuardSettings

pytestmark = pytest.mark.browser

OPERATION = ".opblock-summary-path"
ANSWERED = "document.querySelector('.live-responses-table .response .response-col_status')?.innerText.startsWith('200')"


@pytest.fixture
def sites() -> Iterator[ExitStack]:
    """Whatever is served during a test."""
    with ExitStack() as stack:
        yield stack


def an_api(**options: Any) -> FastAPI:
    api = FastAPI(title="Bank & Sons", **options)

    @api.get("/accounts/{number}")
    async def account(number: int) -> dict[str, int]:
        return {"number": number}

    @api.post("/transfers")
    async def transfer(order: dict[str, int]) -> dict[str, int]:
        return order

    @api.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(status_code=204)

    return api


def guarded(app: ASGIApp) -> Guard:
    return Guard(app, settings=GuardSettings())


def operations(page: Page) -> list[str]:
    page.wait_until(f"document.querySelectorAll('{OPERATION}').length > 0")
    # The paths are shown with marks of where they may be broken.
    script = f"[...document.querySelectorAll('{OPERATION}')].map(one => one.dataset.path)"
    found: list[str] = page.run(script)
    return found


def test_fastapis_own_page_stays_blank(page: Page, sites: ExitStack) -> None:
    page.open(sites.enter_context(serving(guarded(an_api()))) + "/docs")
    page.wait_for_complaint("violates the following Content Security Policy directive")
    assert page.text.strip() == ""


def test_our_page_shows_the_operations_and_the_console_is_silent(page: Page, sites: ExitStack) -> None:
    api = an_api()
    adopt(api)
    origin = sites.enter_context(serving(guarded(api)))
    page.open(origin + "/docs")
    assert operations(page) == ["/accounts/{number}", "/transfers"]
    assert page.run("document.title") == "Bank & Sons - Swagger UI"
    for summary in (".opblock-get .opblock-summary-control", ".opblock-post .opblock-summary-control"):
        page.click(summary)
    page.click(".model-box button, .models button")
    page.wait_until("document.querySelectorAll('.opblock-body').length === 2")
    assert page.complaints == []
    assert [url for url in page.requested if not url.startswith(origin)] == []


def test_an_operation_can_be_tried_out(page: Page, sites: ExitStack) -> None:
    api = an_api()
    adopt(api)
    page.open(sites.enter_context(serving(guarded(api))) + "/docs")
    page.click(".opblock-post .opblock-summary-control")
    page.click(".opblock-post .try-out__btn")
    page.click(".opblock-post .execute")
    page.wait_until(ANSWERED)
    assert page.complaints == []


def test_the_page_stands_below_the_prefix_of_a_mounted_app(page: Page, sites: ExitStack) -> None:
    api = an_api()
    adopt(api)
    origin = sites.enter_context(serving(guarded(Starlette(routes=[Mount("/bank", api)]))))
    page.open(origin + "/bank/docs")
    assert operations(page) == ["/accounts/{number}", "/transfers"]
    assert page.complaints == []


def test_settings_of_the_app_are_honoured(page: Page, sites: ExitStack) -> None:
    api = an_api(docs_url="/", swagger_ui_parameters={"docExpansion": "none", "filter": True})
    adopt(api)
    page.open(sites.enter_context(serving(guarded(api))) + "/")
    page.wait_until("document.querySelector('.operation-filter-input') !== null")
    assert page.run(f"document.querySelectorAll('{OPERATION}').length") == 0
    page.click(".opblock-tag")
    assert len(operations(page)) == 2
    assert page.complaints == []


def test_redoc_says_why_it_is_not_there(page: Page, sites: ExitStack) -> None:
    api = an_api()
    adopt(api)
    page.open(sites.enter_context(serving(guarded(api))) + "/redoc")
    assert "Redoc is not served here" in page.text
    page.click("a[href='/docs']")
    assert len(operations(page)) == 2


# Signing in at an OAuth 2 server of another site, whose window loses the tie to ours.


def an_issuer(asked: list[dict[str, str]], *, error: str = "") -> Starlette:
    """An OAuth 2 server that trusts everybody."""
    api = FastAPI(openapi_url=None)

    @api.get("/authorize")
    async def authorize(redirect_uri: str, state: str) -> RedirectResponse:
        answer = f"error={error}&error_description=not+today" if error else "code=secret-code"
        return RedirectResponse(f"{redirect_uri}?{answer}&state={state}")

    @api.post("/token")
    async def token(request: Request) -> dict[str, str]:
        asked.append(dict(parse_qsl((await request.body()).decode())))
        return {"access_token": "secret-token", "token_type": "bearer"}

    any_origin = Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["*"])
    return Starlette(routes=[Mount("/", api)], middleware=[any_origin])


def an_api_with_sign_in(issuer: str, seen: list[str]) -> FastAPI:
    signed_in = OAuth2AuthorizationCodeBearer(f"{issuer}/authorize", f"{issuer}/token")
    api = FastAPI(swagger_ui_init_oauth={"clientId": "docs", "usePkceWithAuthorizationCodeGrant": True})

    @api.get("/me")
    async def me(token: Annotated[str, Security(signed_in)]) -> str:
        seen.append(token)
        return "alice"

    adopt(api)
    return api


def sign_in(page: Page) -> None:
    page.click(".authorize")
    page.click(".auth-container .modal-btn.authorize")


def test_a_user_signs_in_at_another_site_and_calls_with_the_token(
    browser: Browser, page: Page, sites: ExitStack
) -> None:
    asked: list[dict[str, str]] = []
    seen: list[str] = []
    issuer = sites.enter_context(serving(an_issuer(asked), host="127.0.0.1"))
    origin = sites.enter_context(serving(guarded(an_api_with_sign_in(issuer, seen))))
    page.open(origin + "/docs")
    sign_in(page)
    page.wait_until("document.querySelector('.auth-container')?.innerText.includes('Logout')")
    browser.wait_until_alone(page)
    page.click(".auth-container .btn-done")
    assert asked[0]["code"] == "secret-code"
    assert asked[0]["redirect_uri"] == origin + "/docs/oauth2-redirect"
    assert asked[0]["code_verifier"]

    page.click(".opblock-get .opblock-summary-control")
    page.click(".opblock-get .try-out__btn")
    page.click(".opblock-get .execute")
    page.wait_until(ANSWERED)
    assert seen == ["secret-token"]
    assert page.complaints == []


def test_a_refused_sign_in_is_told_of(browser: Browser, page: Page, sites: ExitStack) -> None:
    asked: list[dict[str, str]] = []
    issuer = sites.enter_context(serving(an_issuer(asked, error="access_denied"), host="127.0.0.1"))
    page.open(sites.enter_context(serving(guarded(an_api_with_sign_in(issuer, [])))) + "/docs")
    sign_in(page)
    page.wait_until("document.querySelector('.auth-container .errors')?.innerText.includes('access_denied: not today')")
    browser.wait_until_alone(page)
    assert asked == []


def test_an_answer_that_nobody_asked_for_is_taken_by_nobody(page: Page, sites: ExitStack) -> None:
    api = an_api()
    adopt(api)
    origin = sites.enter_context(serving(guarded(api)))
    page.open(f"{origin}/docs/oauth2-redirect#access_token=mallorys&state=guessed")
    assert page.run("location.href") == f"{origin}/docs/oauth2-redirect"
    page.wait_until("document.body.innerText.includes('No page waits for this sign-in')")
    assert page.complaints == []
