"""The bank's page in a real browser: its charts move when money does, by what the bank pushes and nobody asks for."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest

from bank.callers import TELLER_SCOPES
from bank.demo_server import FOLDER, demo_environment
from tests.bank.ledgers import funded
from tests.browser.chromium import Page
from tests.crash.processes import processes
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.identity import DevelopmentIssuer
from workhorse.settings import load_settings

pytestmark = pytest.mark.browser

PHONE = 360
START_SECONDS = 60
TOLD = "[...rows.values()].reduce((sum, row) => sum + row.sum, 0)"
"""What the page was told was moved, in cents."""


class Bank(NamedTuple):
    url: str
    pid: int
    token: str
    debtor: int
    creditor: int

    def workers(self) -> list[int]:
        return [pid for pid, parent, command in processes() if parent == self.pid and "spawn_main" in command]

    def transfer(self, amount: int, key: str) -> None:
        order = {"debtor": self.debtor, "creditor": self.creditor, "currency": "EUR", "amount": amount}
        headers = {"authorization": f"Bearer {self.token}", "idempotency-key": key}
        assert httpx.post(f"{self.url}/transfers", json=order, headers=headers).status_code == 201


@pytest.fixture(scope="module")
def bank(servers: Attachment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A bank of two workers, with money to move."""
    database = fresh_database(servers.database_url)
    folder = tmp_path_factory.mktemp("embedded")
    environment = demo_environment(os.environ) | {"DATABASE_URL": database, "WORKHORSE_EMBEDDED__FOLDER": str(folder)}
    log = tmp_path_factory.mktemp("bank") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workhorse.cli", "run", "bank.app:service", "--port", "0", "--workers", "2"],
            cwd=FOLDER,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = await_address(process, log)
        token = DevelopmentIssuer(load_settings(FOLDER, embedded={"folder": folder})).mint("bob", scopes=TELLER_SCOPES)
        with psycopg.connect(database, autocommit=True) as ledger:
            yield Bank(url, process.pid, token, *funded(ledger, 1_000_000, 0))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
            process.wait()
            drop_database(database)


def await_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"serving .* at (http://127\.0\.0\.1:\d+)", log.read_text())
        if found is not None:
            return found[1]
        time.sleep(0.05)
    pytest.fail(f"the bank did not start:\n{log.read_text()}")


def as_seen(page: Page, *, scheme: str, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=2, mobile=width < 600)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def pixels(page: Page, selector: str) -> str:
    drawn: str = page.run(f"document.querySelector('{selector} canvas').toDataURL()")
    return drawn


@pytest.mark.parametrize(("scheme", "width"), [("light", PHONE), ("dark", PHONE), ("dark", 1200)])
def test_the_charts_move_when_a_transfer_is_posted(page: Page, bank: Bank, scheme: str, width: int) -> None:
    as_seen(page, scheme=scheme, width=width)
    page.open(bank.url)
    page.wait_until("feed.textContent === 'Told as it happens' && since > 0")
    before = page.run(TOLD)
    bank.transfer(100, f"first-{scheme}-{width}")
    page.wait_until(f"{TOLD} === {before} + 100")

    drawn = pixels(page, "#amounts")
    bank.transfer(123_45, f"second-{scheme}-{width}")
    page.wait_until(f"{TOLD} === {before} + 100 + 12345")
    assert pixels(page, "#amounts") != drawn
    assert page.run("Number(rate.textContent.replaceAll(',', '')) + Number(peak.textContent.replaceAll(',', '')) > 0")

    # It is readable: nothing is wider than the window, and lines stand out from their ground.
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth"), page.run(
        "[...document.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.tagName + '.' + e.className).join(' ')"
    )
    assert page.run("window.innerWidth") == width
    wide = page.run("[...document.querySelectorAll('.chart canvas')].map(c => c.getBoundingClientRect().width)")
    assert len(wide) >= 2
    assert all(150 < one <= width for one in wide)
    accent = page.run("colour('--accent')")
    assert accent == {"light": "#0f7a55", "dark": "#45d09b"}[scheme]

    # Nothing was against the page's policy, and nothing came from elsewhere.
    assert page.complaints == []
    assert [url for url in page.requested if not url.startswith((bank.url, "data:"))] == []


def test_a_page_whose_server_died_goes_on_where_it_was(page: Page, bank: Bank) -> None:
    as_seen(page, scheme="light", width=1200)
    page.open(bank.url)
    page.wait_until("feed.textContent === 'Told as it happens' && since > 0")
    before = page.run(TOLD)
    for worker in bank.workers():
        os.kill(worker, signal.SIGKILL)
    page.wait_until("feed.textContent === 'Lost, coming again'")
    page.wait_until("feed.textContent === 'Told as it happens'")
    bank.transfer(777, "while-away")
    page.wait_until(f"{TOLD} === {before} + 777")
