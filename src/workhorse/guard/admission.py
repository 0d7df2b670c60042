"""What can be decided without waiting, in the order in which it is asked.

First who the client is, as far as the proxies in front say, since all that follows takes that for granted. Then
whether the head can be trusted to mean one thing; then where it goes; then what may be sent there, and by whose page.
"""

from workhorse.asgi import Reply
from workhorse.guard.body import Inspector
from workhorse.guard.checks.body import check_declared_body, may_have_body
from workhorse.guard.checks.content_coding import check_content_coding, inflater
from workhorse.guard.checks.content_type import FORM, MediaType, TypedBody, check_content_type
from workhorse.guard.checks.cors import check_preflight, cors_headers
from workhorse.guard.checks.csrf import SAFE_METHODS, check_csrf, check_handshake
from workhorse.guard.checks.host import check_host
from workhorse.guard.checks.https import check_https
from workhorse.guard.checks.json_shape import JsonDepth, UntypedJson
from workhorse.guard.checks.methods import check_method
from workhorse.guard.checks.multipart import FormFields, Multipart, check_boundary
from workhorse.guard.checks.path import check_path
from workhorse.guard.checks.shape import check_shape
from workhorse.guard.checks.size import check_size
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.plan import Plan
from workhorse.guard.problems import TlsRequired
from workhorse.guard.routes import Route
from workhorse.guard.verdict import Refusal

__all__ = ["admit", "admit_body", "admit_socket", "inspectors"]


def admit(plan: Plan, facts: Facts, exchange: Exchange) -> Refusal | Reply | None:
    """Refuse or answer a request by its head alone; None lets it pass. Notes its sender and its route."""
    refusal = plan.proxies.check(facts)
    exchange.client = facts.client
    exchange.tls = facts.tls
    headers = facts.headers
    exchange.private = b"authorization" in headers or b"cookie" in headers or b"x-api-key" in headers
    if refusal is None:
        refusal = (
            check_shape(facts)
            or check_size(plan.size, facts)
            or check_method(plan.methods, facts)
            or check_host(plan.host, facts)
        )
    if refusal is not None:
        return refusal
    method = facts.method
    route = plan.routes.find(method, facts.route_path)
    exchange.route = route
    refusal = check_path(plan.path, facts, encoded_slashes=route.encoded_slashes, double_escapes=route.double_escapes)
    if refusal is not None:
        return refusal
    # The next three are asked by the check's own first question, which costs less here than their call.
    if not facts.tls:
        verdict = check_https(plan.https, facts, facts.query)
        if verdict is not None:
            return verdict
    if method == "OPTIONS":
        verdict = check_preflight(plan.cors, facts)
        if verdict is not None:
            return verdict
    exchange.extra += cors_headers(plan.cors, facts)
    if method not in SAFE_METHODS:
        refusal = check_csrf(plan.csrf, facts, cross_site=route.cross_site)
    if refusal is None and may_have_body(facts):
        refusal = admit_body(facts, exchange, route)
    return refusal


def admit_body(facts: Facts, exchange: Exchange, route: Route) -> Refusal | None:
    """Refuse a body by what the head says of it; None lets it pass. Notes what it is."""
    refusal = check_declared_body(route.max_body_bytes, facts) or check_content_coding(facts)
    if refusal is not None:
        return refusal
    kind = check_content_type(facts, route.content_types)
    if isinstance(kind, Refusal):
        return kind
    exchange.body_type = kind
    return check_boundary(kind)


def admit_socket(plan: Plan, facts: Facts, exchange: Exchange) -> Refusal | None:
    """Refuse a WebSocket's handshake by its head alone; None lets it pass."""
    refusal = (
        plan.proxies.check(facts)
        or check_shape(facts)
        or check_size(plan.size, facts)
        or check_host(plan.host, facts)
        or check_path(plan.path, facts)
    )
    exchange.client = facts.client
    exchange.tls = facts.tls
    if refusal is not None:
        return refusal
    route = plan.routes.find("GET", facts.route_path)
    exchange.route = route
    if check_https(plan.https, facts, facts.query) is not None:
        return Refusal("https.required", TlsRequired())  # a handshake does not follow redirects
    return check_handshake(plan.csrf, facts, cross_site=route.cross_site)


def inspectors(plan: Plan, facts: Facts, route: Route, kind: MediaType) -> list[Inspector]:
    """What looks into the body of this request as it streams, in this order: inflated first, so that all see the same.

    `kind` is what `admit_body` found it to be.
    """
    found: list[Inspector] = []
    inflate = inflater(plan.coding, facts, route.max_body_bytes)
    if inflate is not None:
        found.append(inflate)
    if kind.is_json:
        found.append(JsonDepth(plan.json))
    elif kind.boundary:
        found.append(Multipart(plan.forms, kind.boundary))
    elif kind.essence == FORM:
        found.append(FormFields(plan.forms))
    elif not kind.essence and route.content_types is not None:
        found.append(TypedBody(route.content_types))
    elif not kind.essence or kind.essence == b"text/plain":
        found.append(UntypedJson(plan.json))
    return found
