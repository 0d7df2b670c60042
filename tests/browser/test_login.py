"""A login at another site and back, as a real browser goes it: with its own ideas of cookies, redirects and forms."""

from pathlib import Path

import pytest

from tests.browser.chromium import Page
from tests.browser.sites import serving
from tests.identity.login_kit import Bank, parameters, providing
from workhorse.settings import load_settings

pytestmark = pytest.mark.browser


def test_a_person_logs_in_at_the_issuers_site_and_out_again(page: Page, tmp_path: Path) -> None:
    """`localhost` and `127.0.0.1` are two sites: the cookies have to survive the way from one to the other."""
    with providing() as provider:
        bank = Bank(provider, load_settings(tmp_path), url="")
        with serving(bank.guard) as origin:
            provider.redirect_uris = {f"{origin}/login/callback"}
            page.open(origin)
            assert page.run("who.textContent") == "nobody"

            page.click("#in")
            page.wait_until("location.search === '?back'")
            assert page.run("who.textContent") == f"{provider.issuer}|alice", page.complaints
            assert page.run("document.cookie") == "", "no script sees a cookie"

            # The form's page allows forms to this origin only, and the browser holds redirects to that.
            page.click("button")
            page.wait_until("document.querySelector('#left') !== null")
            assert provider.left == [{"client_id": "bank", "post_logout_redirect_uri": f"{origin}/"}]
            page.open(origin)
            assert page.run("who.textContent") == "nobody"
            assert not [one for one in page.complaints if "404" not in one], "but for the icon that there is none of"
            assert not [url for url in page.requested if "id_token" in url or "id_token_hint" in parameters(url)]


def test_a_developer_logs_in_with_no_issuer_at_all(page: Page, tmp_path: Path) -> None:
    with providing() as unused:
        bank = Bank(unused, load_settings(tmp_path), issuer="", url="", client_id="", client_secret="")
        with serving(bank.guard) as origin:
            page.open(origin)
            page.click("#in")
            page.wait_until("document.title === 'Log in for development'")
            page.click("button")
            page.wait_until("location.search === '?back'")
            assert page.run("who.textContent") == "urn:workhorse:development|alice"
            assert [url for url in page.requested if not url.startswith(origin)] == []
            assert not [one for one in page.complaints if "404" not in one], "but for the icon that there is none of"
