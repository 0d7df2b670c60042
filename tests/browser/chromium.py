"""Drives a real Chromium, as a person with a mouse would.

The DevTools protocol is spoken over a pair of pipes (`--remote-debugging-pipe`): no port is opened and no library is
needed. Messages are JSON, each ended by a zero byte. Chromium is told that no host exists but this machine's own names,
so that a page that needs anything from elsewhere fails here.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 20.0

# Third parties get their cookies, as they do in other browsers and by a user's leave in this one.
PREFERENCES = {"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": False}}

# Chromium expects its pipes as descriptors 3 and 4, which only the process itself can arrange.
EXEC = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)


class Timeout(AssertionError):
    """Something did not happen within its time."""


class Browser:
    """One Chromium."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def new_page(self) -> "Page":
        """The only window there is, empty; no cookies are left.

        Not a private one: there Chromium keeps third parties from their cookies, which is what attacks need.
        """
        old = self._windows()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        for one in old:
            self.call("Target.closeTarget", targetId=one)
        self.call("Storage.clearCookies")
        return self._attach(target)

    def wait_until_alone(self, page: "Page") -> None:
        """Wait until every window that `page` has opened is closed again."""
        until = time.monotonic() + SECONDS
        while others := self._windows() - {page.target}:
            if time.monotonic() > until:
                raise Timeout(f"windows stay open: {sorted(others)}")
            time.sleep(0.02)

    def _windows(self) -> set[str]:
        return {one["targetId"] for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"}

    def _attach(self, target: str) -> "Page":
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        return page

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Send one command, and wait for its result. What happened meanwhile is noted at its page."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while True:
            reply = self._read(until)
            if reply.get("id") == self._number:
                if "error" in reply:
                    raise AssertionError(f"{method}: {reply['error']['message']}")
                result: dict[str, Any] = reply["result"]
                return result
            page = self._pages.get(reply.get("sessionId", ""))
            if page is not None and "method" in reply:
                page.note(reply["method"], reply["params"])

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            chunk = os.read(self._from, 1 << 20) if ready else b""
            if not chunk:
                raise Timeout("Chromium has ended" if ready else f"Chromium did not answer within {SECONDS} s")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


class Page:
    """One window."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session = browser, session
        self.target = target
        self.complaints: list[str] = []
        """Errors on the console: of scripts, of loading, and of what a policy forbade."""
        self.requested: list[str] = []
        """The addresses that were asked for."""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(" ".join(str(one.get("value", one)) for one in params["args"]))
        elif event == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])

    def open(self, url: str) -> None:
        """Go there, and wait until the page and all that it loads are there."""
        failed = self.call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.wait_until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, or what its promise becomes."""
        reply = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Wait until an expression in the page is true, across navigations."""
        until = time.monotonic() + SECONDS
        while True:
            reply = self.call("Runtime.evaluate", expression=condition, returnByValue=True)
            if reply["result"].get("value") is True:
                return
            if time.monotonic() > until:
                raise Timeout(f"never true: {condition}\n{self.text}\n{self.complaints}")
            time.sleep(0.02)

    def wait_for_complaint(self, part: str) -> None:
        """Wait until the console tells of something."""
        until = time.monotonic() + SECONDS
        while not any(part in complaint for complaint in self.complaints):
            self.run("0")
            if time.monotonic() > until:
                raise Timeout(f"no complaint of {part!r} among {self.complaints}")
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click in the middle of an element, wherever it is."""
        self.wait_until(f"document.querySelector({selector!r}) !== null")
        find = f"""(() => {{
            const found = document.querySelector({selector!r});
            found.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = found.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        self.click_at(*self.run(find))

    def click_at(self, x: float, y: float) -> None:
        """Press and release the left button of the mouse at a place of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    @property
    def text(self) -> str:
        """What the page says."""
        text: str = self.run("document.body ? document.body.innerText : ''")
        return text

    @property
    def status(self) -> int:
        """The status of the reply that this page came with."""
        status: int = self.run("performance.getEntriesByType('navigation')[0].responseStatus")
        return status


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Run a Chromium."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    assert program is not None, f"these tests need a browser; install one of {', '.join(NAMES)}"
    preferences = profile / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    preferences.write_text(json.dumps(PREFERENCES))
    child_reads, we_write = _high_pipe()
    we_read, child_writes = _high_pipe()
    command = [
        *(sys.executable, "-c", EXEC, str(child_reads), str(child_writes)),
        *(program, "--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
        *("--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
        *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # which Chromium refuses to set up for root
    ]
    with (profile / "output").open("wb") as output:
        process = subprocess.Popen(command, pass_fds=(child_reads, child_writes), stdout=output, stderr=output)
    os.close(child_reads)
    os.close(child_writes)
    try:
        yield Browser(we_write, we_read)
    finally:
        os.close(we_write)  # Chromium ends when its pipe does
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(we_read)


def _high_pipe() -> tuple[int, int]:
    """A pipe whose descriptors are none that the child gives another meaning."""
    ends = os.pipe()
    high = fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(ends[1], fcntl.F_DUPFD_CLOEXEC, 10)
    for end in ends:
        os.close(end)
    return high
