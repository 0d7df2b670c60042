"""The guard's settings, compiled once into bytes, sets and tuples, so that a request costs only look-ups.

Each check compiles what it needs by itself (`checks/`); this gathers it. Whatever can be wrong with a setting is found
here, when the service starts, and never while it serves.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workhorse.errors import SettingsError
from workhorse.guard.checks.body import PaceRules
from workhorse.guard.checks.content_coding import CodingRules, compile_content_coding
from workhorse.guard.checks.cors import CorsRules, compile_cors
from workhorse.guard.checks.csrf import CsrfRules, compile_csrf
from workhorse.guard.checks.csrf_token import CsrfTokenRules, compile_csrf_token
from workhorse.guard.checks.host import LOCAL_HOSTS, HostRules, compile_host
from workhorse.guard.checks.https import HttpsRules, compile_hsts, compile_https
from workhorse.guard.checks.json_shape import JsonRules, compile_json
from workhorse.guard.checks.methods import MethodRules, compile_methods
from workhorse.guard.checks.multipart import FormRules, compile_forms
from workhorse.guard.checks.path import PathRules, compile_path
from workhorse.guard.checks.proxies import Proxies, compile_proxies
from workhorse.guard.checks.size import SizeRules
from workhorse.guard.checks.websocket import WebSocketRules, compile_websocket
from workhorse.guard.headers import HeaderRules, compile_headers
from workhorse.guard.routes import RouteTable
from workhorse.guard.shedding import Limiter
from workhorse.policy import Policy
from workhorse.settings import GuardSettings

__all__ = ["Plan", "compile_plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the guard looks up while it serves. Made by `compile_plan`."""

    proxies: Proxies
    size: SizeRules
    host: HostRules
    path: PathRules
    https: HttpsRules
    cors: CorsRules
    csrf: CsrfRules
    csrf_token: CsrfTokenRules | None
    """None: no token is asked for."""
    methods: MethodRules
    coding: CodingRules
    json: JsonRules
    forms: FormRules
    sockets: WebSocketRules
    pace: PaceRules
    headers: HeaderRules
    routes: RouteTable
    settings: GuardSettings

    def new_limiter(self) -> Limiter:
        """A limiter of the requests under way, for one process."""
        return Limiter(self.settings.min_concurrent_requests, self.settings.max_concurrent_requests)


def compile_plan(settings: GuardSettings, policies: Iterable[Policy] = (), *, production: bool = False) -> Plan:
    """Compile `settings` and `policies`.

    Args:
        settings: the guard's settings.
        policies: the routes that differ from the settings.
        production: whether real data is at stake: then the names of this machine are not served where
            `allowed_hosts` is empty, and plain HTTP is redirected where a trusted proxy tells of it.

    Raises:
        SettingsError: a setting or a policy is malformed, or a policy is for a method that is not served.
    """
    policies = tuple(policies)
    _refuse_unserved(settings, policies)
    hosts = settings.allowed_hosts or (() if production else LOCAL_HOSTS)
    return Plan(
        proxies=Proxies(
            compile_proxies(
                networks=settings.trusted_proxies,
                header=settings.proxy_header,
                certificate_header=settings.client_certificate_header,
            )
        ),
        size=SizeRules(
            target_bytes=settings.max_target_bytes,
            header_bytes=settings.max_header_bytes,
            headers=settings.max_headers,
        ),
        host=compile_host(allowed=hosts, any_host=settings.insecure_any_host),
        path=compile_path(insecure_needless_escapes=settings.insecure_needless_escapes),
        https=compile_https(mode=_https_mode(settings, production=production), port=settings.https_port),
        cors=compile_cors(
            origins=settings.cors_origins,
            insecure_any_origin=settings.insecure_cors_any_origin,
            credentials=settings.cors_credentials,
            methods=settings.cors_methods,
            headers=settings.cors_headers,
            expose=settings.cors_expose_headers,
            max_age_seconds=settings.cors_max_age_seconds,
        ),
        csrf=compile_csrf(
            # A page that may call by CORS could send nothing but simple reads otherwise.
            trusted=(*settings.csrf_origins, *settings.cors_origins),
            token_for_old_clients=bool(settings.csrf_token_keys),
            insecure_cross_site=settings.insecure_cross_site,
        ),
        csrf_token=compile_csrf_token(keys=[key.get_secret_value().encode() for key in settings.csrf_token_keys])
        if settings.csrf_token_keys
        else None,
        pace=PaceRules(pause_seconds=settings.body_pause_seconds, bytes_per_second=settings.body_bytes_per_second),
        methods=compile_methods(methods=settings.methods),
        coding=compile_content_coding(),
        json=compile_json(depth=settings.max_json_depth, values=settings.max_json_values),
        forms=compile_forms(parts=settings.max_parts),
        sockets=compile_websocket(
            message_bytes=settings.max_message_bytes, messages_per_second=settings.messages_per_second
        ),
        headers=compile_headers(
            hsts=compile_hsts(
                seconds=settings.hsts_seconds, subdomains=settings.hsts_subdomains, preload=settings.hsts_preload
            ),
            embedder_policy=settings.embedder_policy,
            report_to=settings.report_to,
            allowed_features=settings.allowed_features,
            own_cors=bool(settings.cors_origins or settings.insecure_cors_any_origin),
        ),
        routes=RouteTable(policies, max_body_bytes=settings.max_body_bytes, deadline_seconds=settings.deadline_seconds),
        settings=settings,
    )


def _refuse_unserved(settings: GuardSettings, policies: Iterable[Policy]) -> None:
    """Refuse policies that no request can ever meet: whoever wrote one believes that it guards something.

    Raises:
        SettingsError: there is one.
    """
    served = {"*", *settings.methods}
    for policy in policies:
        if policy.method not in served:
            raise SettingsError(
                f"the policy {policy.pattern!r} is for the method {policy.method}, which is not served; add it to"
                f" guard.methods, or take the policy out. Served are {', '.join(settings.methods)}"
            )


def _https_mode(settings: GuardSettings, *, production: bool) -> Literal["off", "redirect", "refuse"]:
    """What happens to plain HTTP.

    Without a trusted proxy it cannot be told whether one in front has taken TLS off: a redirect would go in circles.
    """
    if settings.https == "auto":
        return "redirect" if production and settings.trusted_proxies else "off"
    return settings.https
