"""Somebody of the staff at a browser: logs in by the admin's form, and speaks to the API as its pages would."""

import json
import re
import secrets
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode

__all__ = ["Answer", "Person"]

SECONDS: Final = 30.0
_TOKEN: Final = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Person:
    """One browser.

    Args:
        host: where the clinic is.
        port: its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._connection = HTTPConnection(host, port, timeout=SECONDS)
        self._origin = f"http://{host}:{port}"
        self._cookies: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def log_in(self, name: str, password: str) -> None:
        """Log in.

        Raises:
            PermissionError: the clinic did not let them in.
        """
        page = self.ask("GET", "/admin/login/")
        token = _TOKEN.search(page.body.decode())
        if token is None:
            raise PermissionError(f"no form to log in with: {page.status}")
        form = {"username": name, "password": password, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
        reply = self.ask(
            "POST", "/admin/login/", urlencode(form).encode(), {"content-type": "application/x-www-form-urlencoded"}
        )
        if reply.status != 302:
            raise PermissionError(f"{name} was not let in: {reply.status}")

    def get(self, path: str) -> Answer:
        """Read."""
        return self.ask("GET", path)

    def post(self, path: str, data: Any, *, key: str = "", kind: str = "application/json") -> Answer:
        """Send JSON, with an Idempotency-Key of its own unless one is given."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        headers = {"content-type": kind, "idempotency-key": key or secrets.token_hex(8)}
        return self.ask("POST", path, body, headers)

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """One request, with the cookies so far, as a page of the clinic's own sends it."""
        sent = {"origin": self._origin, "sec-fetch-site": "same-origin", **(headers or {})}
        if self._cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        if "csrftoken" in self._cookies:
            sent.setdefault("x-csrftoken", self._cookies["csrftoken"])
        self._connection.request(method, path, body or None, sent)
        reply = self._connection.getresponse()
        content = reply.read()
        for value in reply.headers.get_all("set-cookie") or ():
            for morsel in SimpleCookie(value).values():
                self._cookies[morsel.key] = morsel.value
        return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, content)
