"""The pages of a FastAPI app's API need nothing but the service itself, and nothing that the guard's policy forbids."""

import asyncio
import html
import json
import re
import sys
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi import FastAPI, Security
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.security import OAuth2AuthorizationCodeBearer
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.asgi_client import Seen, call
from tests.integrations.page_policy import Reading, read_page
from workhorse.asgi import ASGIApp
from workhorse.guard import Guard
from workhorse.guard.headers import PAGE_POLICY
from workhorse.integrations import adopt, list_routes
from workhorse.integrations.api_docs import page_policy, split_data_urls
from workhorse.settings import GuardSettings

ORIGIN = "http://localhost:8000"
FILES = "/docs/swagger-ui/"


def an_api(**options: Any) -> FastAPI:
    api = FastAPI(title="Bank", **options)

    @api.get("/swagger-ui/{page}")
    async def own(page: str) -> str:
        return page

    adopt(api)
    return api


def ask(app: ASGIApp, path: str, *, method: str = "GET", **more: Any) -> Seen:
    guard = Guard(app, settings=GuardSettings())
    return asyncio.run(call(guard, method, path, headers=[("host", "localhost:8000")], **more))


def read(app: ASGIApp, path: str, **more: Any) -> Reading:
    """Read a page under the policy that it came with."""
    seen = ask(app, path, **more)
    assert seen.status == 200
    assert seen.header("content-type") == "text/html; charset=utf-8"
    policy = seen.header("content-security-policy")
    assert policy is not None
    return read_page(seen.body.decode(), address=ORIGIN + path, policy=policy)


def settings_of(seen: Seen) -> dict[str, Any]:
    """What the page tells its script."""
    match = re.search(r'data-settings="([^"]*)"', seen.body.decode())
    assert match is not None
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    return found


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the wheel impossible to find, by the interpreter's own word for that."""
    monkeypatch.setitem(sys.modules, "fastapi_swagger", None)


def test_fastapis_own_pages_are_stopped_by_the_policy() -> None:
    app = FastAPI()
    found = read(app, "/docs").violations
    assert "<script> stands in the page" in found
    assert any("cdn.jsdelivr.net" in violation and "script-src" in violation for violation in found)
    assert "<style> stands in the page" in read(app, "/redoc").violations
    assert "<script> stands in the page" in read(app, "/docs/oauth2-redirect").violations


@pytest.mark.parametrize("path", ["/docs", "/docs/oauth2-redirect", "/redoc"])
def test_nothing_of_our_pages_is_stopped_by_the_policy(path: str) -> None:
    seen = ask(an_api(), path)
    assert seen.header("content-security-policy") == PAGE_POLICY.decode()
    assert read(an_api(), path).violations == []


@pytest.mark.parametrize(("path", "kinds"), [("/docs", ["png", "css", "js", "js"]), ("/docs/oauth2-redirect", ["js"])])
def test_everything_that_a_page_loads_is_there(path: str, kinds: list[str]) -> None:
    app = an_api()
    loaded = read(app, path).loaded
    assert [url.rpartition(".")[2] for url in loaded] == kinds
    types = {"png": "image/png", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
    for url in loaded:
        assert url.startswith(ORIGIN + FILES)
        seen = ask(app, urlsplit(url).path)
        assert (seen.status, seen.header("content-type")) == (200, types[url.rpartition(".")[2]])
        assert seen.header("cache-control") == "private, max-age=31536000, immutable"
        assert seen.header("x-content-type-options") == "nosniff"
        assert len(seen.body) > 100


def test_the_style_sheet_names_images_that_are_there_and_holds_none() -> None:
    app = an_api()
    sheet = next(url for url in read(app, "/docs").loaded if url.endswith(".css"))
    style = ask(app, urlsplit(sheet).path).body.decode()
    named = set(re.findall(r"url\(([^)]*)\)", style))
    assert len(named) > 5
    for name in named:
        seen = ask(app, urlsplit(urljoin(sheet, name)).path)
        assert seen.status == 200
        assert (seen.header("content-type") or "").startswith("image/")
    assert "data:" not in style


def test_the_scripts_of_a_page_are_its_files_and_need_no_eval() -> None:
    app = an_api()
    ours = [url for url in read(app, "/docs").loaded + read(app, "/docs/oauth2-redirect").loaded if url.endswith(".js")]
    texts = [ask(app, urlsplit(url).path).body.decode() for url in ours if "bundle" not in url]
    assert len(texts) == 2
    assert not any(re.search(r"\beval\b|new Function|innerHTML|document\.write", text) for text in texts)


def test_the_same_content_has_the_same_address_in_every_process() -> None:
    assert read(an_api(), "/docs").loaded == read(an_api(), "/docs").loaded


@pytest.mark.parametrize("name", ["unknown.js", "swagger-ui.css", "start.js", "x/start.js", ""])
def test_what_is_no_file_of_the_page_is_not_found(name: str) -> None:
    assert ask(an_api(), FILES + name).status == 404


def test_the_apps_own_routes_are_left_alone() -> None:
    api = an_api()
    assert ask(api, "/swagger-ui/x").json() == "x"
    assert ask(api, "/openapi.json").json()["paths"].keys() == {"/swagger-ui/{page}"}


def test_an_apps_own_page_is_left_alone() -> None:
    api = FastAPI(docs_url=None, redoc_url=None)

    @api.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="/openapi.json", title="Mine")

    adopt(api)
    assert b"<title>Mine</title>" in ask(api, "/docs").body
    assert ask(api, "/redoc").status == 404


def test_without_a_description_there_are_no_pages() -> None:
    api = an_api(openapi_url=None)
    assert [ask(api, path).status for path in ("/docs", "/redoc", FILES + "x")] == [404, 404, 404]


def test_a_second_adoption_changes_nothing() -> None:
    api = an_api()
    before = list_routes(api)
    adopt(api)
    assert list_routes(api) == before
    assert ask(api, "/docs").status == 200


def test_names_and_order_of_the_routes_stay() -> None:
    plain, adopted = FastAPI(), FastAPI()
    adopt(adopted)
    assert adopted.url_path_for("swagger_ui_html") == plain.url_path_for("swagger_ui_html")
    assert adopted.url_path_for("swagger_ui_redirect") == plain.url_path_for("swagger_ui_redirect")
    assert adopted.url_path_for("redoc_html") == plain.url_path_for("redoc_html")
    added = {route.path for route in list_routes(adopted) or ()} - {route.path for route in list_routes(plain) or ()}
    assert added == {"/docs/swagger-ui/{name}"}


def test_pages_and_files_stand_below_the_prefix_of_the_app() -> None:
    mounted = Starlette(routes=[Mount("/bank", an_api())])
    page = read(mounted, "/bank/docs")
    assert page.violations == []
    assert all(url.startswith(f"{ORIGIN}/bank{FILES}") for url in page.loaded)
    assert [ask(mounted, urlsplit(url).path).status for url in page.loaded] == [200] * len(page.loaded)
    settings = settings_of(ask(mounted, "/bank/docs"))
    assert settings["parameters"]["url"] == "/bank/openapi.json"
    assert settings["redirect"] == "/bank/docs/oauth2-redirect"
    assert b'href="/bank/docs"' in ask(mounted, "/bank/redoc").body


def test_the_page_may_have_any_path() -> None:
    api = an_api(docs_url="/", swagger_ui_oauth2_redirect_url="/back", redoc_url="/more")
    page = read(api, "/")
    assert page.violations == []
    # The app's own route of the same path would win, had it been there first; ours was.
    assert [ask(api, urlsplit(url).path).status for url in page.loaded] == [200, 200, 200, 200]
    assert settings_of(ask(api, "/"))["redirect"] == "/back"
    assert read(api, "/back").violations == []
    assert b'href="/"' in ask(api, "/more").body


def test_settings_of_the_app_reach_the_script() -> None:
    api = an_api(
        swagger_ui_parameters={"docExpansion": "none", "deepLinking": False, "dom_id": "#swagger-ui"},
        swagger_ui_init_oauth={"clientId": "docs", "usePkceWithAuthorizationCodeGrant": True},
    )
    settings = settings_of(ask(api, "/docs"))
    assert settings["parameters"] == {
        "url": "/openapi.json",
        "dom_id": "#swagger-ui",
        "layout": "BaseLayout",
        "deepLinking": False,
        "showExtensions": True,
        "showCommonExtensions": True,
        "docExpansion": "none",
    }
    assert settings["oauth"] == {"clientId": "docs", "usePkceWithAuthorizationCodeGrant": True}


def test_an_app_without_settings_of_its_own_has_those_of_fastapi() -> None:
    settings = settings_of(ask(an_api(swagger_ui_oauth2_redirect_url=None), "/docs"))
    assert settings["parameters"]["layout"] == "BaseLayout"
    assert (settings["oauth"], settings["redirect"]) == (None, None)


@given(st.text(max_size=60))
def test_nothing_that_an_app_says_of_itself_breaks_out_of_the_page(said: str) -> None:
    said += "\"'><script>evil()</script>"
    api = FastAPI(title=said, swagger_ui_parameters={"filter": said})
    adopt(api)
    seen = ask(api, "/docs")
    assert settings_of(seen)["parameters"]["filter"] == said
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert read(api, path).violations == []
        assert b"<script>evil" not in ask(api, path).body


def test_head_is_answered_as_get() -> None:
    seen, whole = ask(an_api(), "/docs", method="HEAD"), ask(an_api(), "/docs")
    assert (seen.status, seen.header("content-length")) == (200, str(len(whole.body)))


# Without the extra.


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_the_page_says_what_to_install() -> None:
    page = read(an_api(), "/docs")
    assert (page.violations, page.loaded) == ([], [])
    text = html.unescape(ask(an_api(), "/docs").body.decode())
    assert 'pip install "workhorse[docs]"' in text
    assert 'href="/openapi.json"' in text


@pytest.mark.usefixtures("without_the_extra")
def test_the_routes_are_the_same_without_the_extra() -> None:
    paths = [f"{route.method} {route.path}" for route in list_routes(an_api()) or ()]
    assert "GET /docs/swagger-ui/{name}" in paths
    assert ask(an_api(), FILES + "swagger-ui-bundle.js").status == 404


def test_redoc_says_where_the_operations_are() -> None:
    text = ask(an_api(), "/redoc").body.decode()
    assert "Redoc is not served here" in text
    assert 'href="/docs"' in text
    assert 'href="/docs"' not in ask(an_api(docs_url=None), "/redoc").body.decode()


# Calls to other origins.


def schema_of(**members: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "Bank", "version": "1"}, "paths": {}, **members}


def allowed(**members: Any) -> list[str]:
    """What the page may call besides its own origin."""
    policy = page_policy(schema_of(**members))
    if policy is None:
        return []
    rest = policy.decode().removeprefix(PAGE_POLICY.decode() + "; connect-src 'self' ")
    return rest.split(" ")


def flows(**urls: str) -> dict[str, Any]:
    return {"securitySchemes": {"x": {"type": "oauth2", "flows": {"authorizationCode": urls}}}}


URLS: list[tuple[str, list[str]]] = [
    ("https://login.example/token", ["https://login.example"]),
    ("https://login.example:8443/token?x=1", ["https://login.example:8443"]),
    ("HTTPS://Login.Example", ["https://login.example"]),
    ("http://[::1]:8080/token", ["http://[::1]:8080"]),
    ("/token", []),
    ("token", []),
    ("//login.example/token", []),
    ("", []),
    ("javascript:alert(1)", []),
    ("https://user:password@login.example/", []),
    ("https://login.example;script-src *", []),
    ("https://login.example, default-src *", []),
    ("https://login.example\r\nset-cookie: a=b", []),
    ("https://*", []),
    ("https://{region}.example/token", []),
    ("https:///token", []),
]


@pytest.mark.parametrize(("url", "expected"), URLS)
def test_the_page_may_call_the_origins_of_well_formed_addresses_only(url: str, expected: list[str]) -> None:
    assert allowed(components=flows(tokenUrl=url)) == expected


def test_the_page_may_call_what_its_description_names_and_nothing_else() -> None:
    server = [{"url": "https://a.example/v1"}]
    assert allowed(servers=server) == ["https://a.example"]
    assert allowed(paths={"/x": {"servers": server}}) == ["https://a.example"]
    assert allowed(paths={"/x": {"get": {"servers": server}}}) == ["https://a.example"]
    assert allowed(components=flows(refreshUrl="https://a.example/r")) == ["https://a.example"]
    assert allowed(components={"securitySchemes": {"x": {"openIdConnectUrl": "https://a.example/.w"}}}) == [
        "https://a.example"
    ]
    # A person goes there, no script does.
    assert allowed(components=flows(authorizationUrl="https://a.example/authorize")) == []
    assert allowed(components={"examples": {"x": {"servers": server}}}) == []
    assert len(allowed(servers=[{"url": f"https://{number}.example"} for number in range(100)])) == 20


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["servers", "paths", "components"]), json_values),
    json_values,
)
def test_a_description_that_is_not_as_it_should_be_names_nothing(schema: dict[str, Any], scheme: Any) -> None:
    assert page_policy(schema) is None
    assert page_policy({"components": {"securitySchemes": {"x": scheme}}, "servers": [scheme]}) is None


def test_an_issuer_of_another_origin_may_be_called_from_the_page() -> None:
    api = FastAPI()
    scheme = OAuth2AuthorizationCodeBearer("https://login.example/authorize", "https://login.example/token")

    @api.get("/me", dependencies=[Security(scheme)])
    async def me() -> None: ...

    adopt(api)
    seen = ask(api, "/docs")
    assert seen.header("content-security-policy") == f"{PAGE_POLICY.decode()}; connect-src 'self' https://login.example"
    assert seen.count("content-security-policy") == 1
    assert read(api, "/docs").violations == []


# Images in style sheets.

SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"
IMAGES = [
    ('url("data:image/svg+xml,<svg xmlns=\\"http://x\\"/>")', b'<svg xmlns="http://x"/>', "svg"),
    (f'url( "data:image/svg+xml;charset=utf-8,{SVG}" )', SVG.encode(), "svg"),
    ("url('data:image/svg+xml,%3Csvg fill=\"%23fff\"/%3E')", b'<svg fill="#fff"/>', "svg"),
    ("url(data:image/png;base64,aGVsbG8=)", b"hello", "png"),
    ("url(data:IMAGE/JPEG;base64,aGVsbG8=)", b"hello", "jpg"),
]


@pytest.mark.parametrize(("written", "body", "suffix"), IMAGES)
def test_an_image_in_a_style_sheet_becomes_a_file(written: str, body: bytes, suffix: str) -> None:
    style, images = split_data_urls(f"a {{ background: {written} }}")
    [(name, image)] = images.items()
    assert style == f"a {{ background: url({name}) }}"
    assert re.fullmatch(rf"image\.[0-9a-f]{{16}}\.{suffix}", name)
    assert image.body == body


KEPT = [
    "url(image.png)",
    'url("https://x.example/a.png")',
    "url(data:text/html,<p>)",
    "url(data:image/png;base64,???)",
    "url(data:image/png)",
    "url(data:font/woff2;base64,aGVsbG8=)",
    'content: "data:image/png;base64,aGVsbG8="',
    'url("data:image/png;base64,aGVsbG8=',
]


@pytest.mark.parametrize("written", KEPT)
def test_what_is_no_image_in_a_style_sheet_stays(written: str) -> None:
    assert split_data_urls(written) == (written, {})


@given(st.text(alphabet="url(dat:imge/pn;bs64,)\"'\\ \n", max_size=200))
def test_any_text_is_taken_for_a_style_sheet(text: str) -> None:
    style, images = split_data_urls(text)
    assert (style == text) == (images == {})


# The checker itself.


@pytest.mark.parametrize(
    "content",
    [
        "<script>a()</script>",
        "<style>a {}</style>",
        "<p style='color: red'>",
        "<img src=x onerror=a()>",
        "<a href='javascript:a()'>",
        "<base href='/x'>",
        "<script src='https://cdn.example/a.js'></script>",
        "<link rel=stylesheet href='https://cdn.example/a.css'>",
        "<link rel='shortcut icon' href='https://cdn.example/a.png'>",
        "<img src='data:image/png;base64,aGVsbG8='>",
        "<form action='https://evil.example/'>",
        "<object data='/a.swf'></object>",
        "<script nonce='guessed'>a()</script>",
    ],
)
def test_the_checker_finds_what_a_browser_would_stop(content: str) -> None:
    assert read_page(content, address=ORIGIN, policy=PAGE_POLICY.decode()).violations != []


def test_the_checker_lets_pass_what_a_browser_would() -> None:
    policy = PAGE_POLICY.decode() + "; script-src 'self' 'nonce-given'; img-src https://img.example"
    content = (
        "<script src=/a.js></script><script nonce=given>a()</script><link rel=stylesheet href=b.css>"
        "<img src=https://img.example/a.png><form action=/x></form><a href=https://other.example>"
    )
    reading = read_page(content, address=ORIGIN, policy=policy)
    assert reading.violations == []
    assert len(reading.loaded) == 4
