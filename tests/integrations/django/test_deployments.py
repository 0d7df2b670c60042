"""How a project may be set up and served: with Django's own middleware or the guard's, under ASGI or WSGI."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import pytest
from django.core.wsgi import get_wsgi_application

from tests.integrations.django.conftest import CONNECTIONS, Project
from tests.integrations.django.page_setup import CALL, MIDDLEWARE, OWN, browse, enter, make_user, token_of, use_pages
from tests.integrations.django.test_project import found
from workhorse import Service
from workhorse.errors import SettingsError

REPLACED = [name for name in MIDDLEWARE if name.split(".")[-1].startswith(("Security", "Csrf", "XFrame"))]
KEPT = [name for name in MIDDLEWARE if name not in REPLACED]
HEADERS = {"x-frame-options", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy"}


def test_the_guard_stands_for_django_s_own_middleware(project: Project) -> None:
    use_pages(project, MIDDLEWARE=KEPT)
    CALL("migrate", verbosity=0)
    make_user("ada", superuser=True)

    async def script(client: httpx.AsyncClient) -> list[httpx.Response]:
        await enter(client, "ada")
        form = await client.get("/admin/project/note/add/")
        fields = {"text": "a", "csrfmiddlewaretoken": token_of(form)}
        forged = await client.post("/admin/project/note/add/", data={**fields, "csrfmiddlewaretoken": ""}, headers=OWN)
        foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        attacked = await client.post("/page", data={"a": "b"}, headers=foreign)
        made = await client.post("/admin/project/note/add/", data=fields, headers=OWN)
        return [await client.get("/page"), forged, attacked, made]

    page, forged, attacked, made = browse(project, script)
    names = [name for name, _ in page.headers.multi_items()]
    assert {name: names.count(name) for name in HEADERS} == dict.fromkeys(HEADERS, 1)
    # The admin asks for its token by a decorator of its own; what other sites send, the guard refuses.
    assert [forged.status_code, attacked.status_code, made.status_code] == [403, 403, 302]
    assert project.notes() == ["a"]


def test_a_deployment_is_told_what_the_guard_does_already(project: Project) -> None:
    options = {"pool": True, "options": "-c statement_timeout=30s"}
    project.set_database("default", OPTIONS=options)
    hosts = {"guard": {"allowed_hosts": ["bank.example"]}}
    project.configure(WORKHORSE=hosts, WORKHORSE_SERVICE="a:b", MIDDLEWARE=[MIDDLEWARE[0], *REPLACED])
    assert "may be taken out of MIDDLEWARE" in found(deploy=True)["I001"]
    project.configure(MIDDLEWARE=MIDDLEWARE[:1])
    assert "SILENCED_SYSTEM_CHECKS = ['security.W00" in found(deploy=True)["I002"]
    project.configure(SILENCED_SYSTEM_CHECKS=["security.W001", "security.W002", "security.W003"])
    assert found(deploy=True) == {}


def test_a_deployment_is_told_what_production_refuses(project: Project) -> None:
    project.configure(WORKHORSE={"guard": {"allowed_hosts": ["*.com"]}})
    said = found(deploy=True)
    assert "guard.allowed_hosts" in said["W006"]


def test_an_upload_arrives_whole(project: Project) -> None:
    use_pages(project)
    data = os.urandom(3_000_000)  # more than Django keeps in memory

    async def script(client: httpx.AsyncClient) -> httpx.Response:
        form = await client.get("/login")
        headers = {**OWN, "x-csrftoken": token_of(form)}
        return await client.post("/upload", files={"file": ("a.bin", data)}, headers=headers)

    CALL("migrate", verbosity=0)
    from workhorse import Policy

    reply = browse(project, script, Policy("* /{path:path}", public=True, max_body_bytes=4_000_000))
    assert reply.text == f"a.bin 3000000 {sha256(data).hexdigest()} TemporaryUploadedFile"


CSP = [] if find_spec("django.middleware.csp") is None else ["django.middleware.csp.ContentSecurityPolicyMiddleware"]


@pytest.mark.parametrize("middleware", [[], CSP], ids=["the guard's policy", "Django's own, where it has one"])
def test_the_nonce_in_a_page_is_that_of_the_policy_which_is_sent(project: Project, middleware: list[str]) -> None:
    use_pages(
        project, MIDDLEWARE=[*MIDDLEWARE, *middleware], SECURE_CSP={"script-src": ["'self'", "<CSP_NONCE_SENTINEL>"]}
    )

    async def script(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get("/page?script=1")

    page = browse(project, script)
    nonce = page.text.partition("nonce='")[2].partition("'")[0]
    policies = page.headers.get_list("content-security-policy")
    assert len(policies) == 1
    assert f"'nonce-{nonce}'" in policies[0]
    assert len(nonce) > 16


def test_a_service_refuses_a_wsgi_app(project: Project) -> None:
    with pytest.raises(SettingsError, match=r"make it Service\(get_asgi_application\(\), ...\)"):
        Service(cast("Any", get_wsgi_application()))


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@contextmanager
def wsgi_server() -> Iterator[int]:
    """The project under a WSGI server, one request after the other."""
    with make_server("127.0.0.1", 0, cast("Any", get_wsgi_application()), handler_class=Quiet) as server:

        def serve() -> None:
            server.serve_forever(0.05)
            CONNECTIONS.close_all()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_under_wsgi_a_request_is_one_transaction(project: Project) -> None:
    def send(path: str, text: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("POST", path, json.dumps({"text": text}), {"content-type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    with wsgi_server() as port:
        told = [send(path, path) for path in ("/add", "/status/400", "/refuses", "/raises", "/plain", "/add-async")]
    assert told == [201, 400, 409, 500, 201, 201]
    assert project.notes() == ["/add", "/plain", "/add-async"]
    assert project.events() == ["note.added"] * 2
    assert project.jobs() == ["tell"] * 2


@pytest.mark.slow
def test_nothing_is_half_done_when_the_server_is_killed(project: Project, tmp_path: Path) -> None:
    """Kill -9 while requests are under way: what was acknowledged stands, whole; a retry of the rest is done once."""
    root = Path(__file__).parents[3]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "DATABASE_URL": project.url,
        "DJANGO_SETTINGS_MODULE": "tests.integrations.django.project.settings",
        "WORKHORSE_JOBS__IN_PROCESS": "off",
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "workhorse.cli", "run", "tests.integrations.django.project.asgi:service"]
    log = tmp_path / "server.log"

    def start() -> "subprocess.Popen[bytes]":
        with log.open("ab") as out:
            return subprocess.Popen(
                [*command, "--port", str(port)],
                env=environment,
                cwd=tmp_path,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def end(server: "subprocess.Popen[bytes]") -> None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def wait_ready() -> None:
        ends = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.1)

    acknowledged: dict[str, bytes] = {}
    stop = threading.Event()

    def send_all(worker: int) -> None:
        for number in range(200):
            key = f"{worker}-{number}"
            while not stop.is_set():
                try:
                    reply = httpx.post(
                        f"http://127.0.0.1:{port}/add",
                        json={"text": key},
                        headers={"idempotency-key": key},
                        timeout=20,
                    )
                except httpx.HTTPError:
                    time.sleep(0.05)
                    continue
                if reply.status_code == 201:
                    acknowledged[key] = reply.content
                    break
                time.sleep(0.05)

    server = start()
    threads = [threading.Thread(target=send_all, args=(worker,)) for worker in range(4)]
    try:
        wait_ready()
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(1.5)
            end(server)
            server = start()
            wait_ready()
        before = dict(acknowledged)
        stop.set()
        for thread in threads:
            thread.join()
        assert len(before) > 10
        for key, content in list(before.items())[:10]:
            again = httpx.post(
                f"http://127.0.0.1:{port}/add", json={"text": key}, headers={"idempotency-key": key}, timeout=20
            )
            assert (again.status_code, again.content) == (201, content)
    finally:
        stop.set()
        end(server)
    notes = project.notes()
    assert len(notes) == len(set(notes))
    assert acknowledged.keys() <= set(notes)
    # Each note has its event, its job and its kept reply, or there is none of the four.
    assert len(notes) == len(project.events()) == len(project.jobs()) == project.replies()
