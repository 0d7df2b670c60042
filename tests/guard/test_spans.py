"""Spans of OpenTelemetry, made with its real SDK, which keeps them in memory; one provider a process, as it wants."""

import asyncio

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.asgi_client import Seen, call
from workhorse.guard import Guard, compile_plan
from workhorse.settings import GuardSettings

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def an_app() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{item}")
    async def item(item: int) -> str:
        with trace.get_tracer("app").start_as_current_span("work"):
            return "ok"

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("secret-of-the-exception")

    return app


def ask(exporter: InMemorySpanExporter, path: str, **more: object) -> tuple[Seen, list[ReadableSpan]]:
    exporter.clear()
    guard = Guard(an_app(), compile_plan(GuardSettings()))
    seen = asyncio.run(call(guard, "GET", path, **more))  # type: ignore[arg-type]
    return seen, list(exporter.get_finished_spans())


def test_a_request_has_one_span_and_the_apps_own_are_its_children(exporter: InMemorySpanExporter) -> None:
    seen, spans = ask(exporter, "/items/7?token=secret")
    assert seen.status == 200
    inner, outer = spans
    assert (inner.name, outer.name, outer.kind) == ("work", "GET /items/{item}", SpanKind.SERVER)
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    attributes = dict(outer.attributes or {})
    assert attributes["http.route"] == "/items/{item}"
    assert attributes["http.response.status_code"] == 200
    assert attributes["url.path"] == "/items/7"
    assert "secret" not in outer.to_json()


def test_the_callers_trace_goes_on_and_is_the_requests_id(exporter: InMemorySpanExporter) -> None:
    seen, spans = ask(exporter, "/items/7", headers=[("traceparent", PARENT)])
    assert f"{spans[-1].context.trace_id:032x}" == PARENT[3:35] == seen.header("x-request-id")
    seen, spans = ask(exporter, "/items/7")
    assert f"{spans[-1].context.trace_id:032x}" == seen.header("x-request-id")


def test_an_error_is_marked_and_its_text_stays_out(exporter: InMemorySpanExporter) -> None:
    seen, (span,) = ask(exporter, "/crash")
    assert seen.status == 500
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "RuntimeError"
    assert "secret-of-the-exception" not in span.to_json()


def test_a_refusal_names_its_control(exporter: InMemorySpanExporter) -> None:
    seen, (span,) = ask(exporter, "/items/7", headers=[("host", "evil.test")])
    assert seen.status == 421
    assert dict(span.attributes or {})["workhorse.control"] == "host.not_served"
