"""The settings of the way in."""

from typing import Literal, Self

from pydantic import Field, model_validator

from workhorse.settings.record import Names, Record, Secrets

__all__ = ["GuardSettings"]


class GuardSettings(Record):
    """The way in. Route by route, a `Policy` says otherwise."""

    allowed_hosts: Names = Field(
        default=(),
        description="Host names served; `*.example.com` for all below. None: this machine's, in development.",
    )
    insecure_any_host: bool = Field(default=False, description="Serve whatever Host a client sends.")
    trusted_proxies: Names = Field(
        default=(),
        description="Networks of the proxies in front, such as 10.0.0.0/8, whose word on the client is taken; `unix`"
        " for a Unix socket.",
    )
    proxy_header: Literal["x-forwarded", "forwarded"] = Field(
        default="x-forwarded",
        description="How they say it: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239).",
    )
    client_certificate_header: str = Field(
        default="", description="The header in which they pass on a verified client certificate; empty: none."
    )
    https: Literal["auto", "off", "redirect", "refuse"] = Field(
        default="auto",
        description="What happens to plain HTTP. auto: redirect in production behind trusted proxies, else off.",
    )
    https_port: int = Field(default=443, ge=1, le=65_535, description="Where TLS is spoken, for that redirect.")
    hsts_seconds: int = Field(
        default=63_072_000, ge=0, description="Strict-Transport-Security on replies over TLS; 0: none."
    )
    hsts_subdomains: bool = Field(default=True, description="It holds for all names below this one, too.")
    hsts_preload: bool = Field(
        default=False, description="It may be built into browsers, from where it takes months to get out again."
    )
    report_to: str = Field(
        default="",
        description="Path or https address that browsers report violations of a page's policy to; empty: nowhere.",
    )
    allowed_features: Names = Field(
        default=(),
        description="Features, such as camera, that pages may ask their user for; see Permissions-Policy in"
        " docs/checks.md.",
    )
    embedder_policy: Literal["", "require-corp", "credentialless"] = Field(
        default="", description="Cross-Origin-Embedder-Policy of pages and scripts; empty: none."
    )
    cors_origins: Names = Field(
        default=(), description="Origins, such as https://app.example.com, whose pages may call and read replies."
    )
    insecure_cors_any_origin: bool = Field(
        default=False, description="Let every page there is read replies, without the user's cookies."
    )
    cors_credentials: bool = Field(default=False, description="Let those pages send the user's cookies.")
    cors_methods: Names = Field(
        default=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), description="Methods that those pages may use."
    )
    cors_headers: Names = Field(
        default=("authorization", "content-type", "idempotency-key", "traceparent", "x-request-id"),
        description="Request headers that those pages may send.",
    )
    cors_expose_headers: Names = Field(
        default=("idempotent-replayed", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id"),
        description="Reply headers that those pages may read.",
    )
    cors_max_age_seconds: int = Field(
        default=600, ge=0, le=86_400, description="How long a browser may remember what is allowed."
    )
    csrf_origins: Names = Field(
        default=(), description="Further origins whose pages may send forms and requests with the user's cookies."
    )
    insecure_cross_site: bool = Field(
        default=False, description="Take unsafe requests that other sites' pages send with the user's cookies."
    )
    csrf_token_keys: Secrets = Field(
        default=(),
        description="Secrets of 32 characters or more: an unsafe request with a cookie that tells nothing of where it"
        " comes from then needs a token. The first one signs, all are taken. None: it passes.",
    )
    methods: Names = Field(
        default=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), description="Methods that are served."
    )
    insecure_needless_escapes: bool = Field(
        default=False, description="Take `/%61dmin` for `/admin`, which a proxy's rule for `/admin` may not see."
    )
    max_target_bytes: int = Field(default=8 * 1024, ge=256, description="Longest request target (path and query).")
    max_header_bytes: int = Field(default=32 * 1024, ge=1024, description="Largest sum of a request's header bytes.")
    max_headers: int = Field(default=100, ge=10, description="Most header fields of a request.")
    max_body_bytes: int = Field(
        default=1024 * 1024, ge=0, description="Largest request body, after decompression; a policy may set its own."
    )
    max_pending_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of bodies that a worker process holds for unanswered requests; more are refused with 503.",
    )
    max_json_depth: int = Field(default=64, ge=1, le=1000, description="Deepest nesting of a JSON body.")
    max_json_values: int = Field(
        default=1_000_000, ge=1, description="Most commas, arrays and objects of a JSON body together."
    )
    max_parts: int = Field(default=1000, ge=1, description="Most parts or fields of a form.")
    body_pause_seconds: float = Field(
        default=20, gt=0, le=3600, description="Longest wait for the next bytes of a body."
    )
    body_bytes_per_second: int = Field(
        default=500, ge=0, description="Least rate of a body, after the first pause; 0: none."
    )
    deadline_seconds: float = Field(
        default=60,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Longest time until a reply begins; a policy may set its own.",
    )
    max_concurrent_requests: int = Field(
        default=1000, ge=1, description="Requests under way per worker process; more are refused with 503."
    )
    min_concurrent_requests: int = Field(
        default=200,
        ge=1,
        description="How far that limit goes down when latency rises; the same as the maximum: it stays fixed.",
    )
    rate_store: Literal["auto", "cache", "database", "memory"] = Field(
        default="auto", description="Where rate limits are counted. auto: the cache if there is one, else the database."
    )
    rate_ahead_seconds: float = Field(
        default=2,
        ge=0,
        le=5,
        allow_inf_nan=False,
        description="How long a process may hand out what it took ahead for a caller far from its limit; 0: never.",
    )
    max_message_bytes: int = Field(default=1024 * 1024, ge=1, description="Largest WebSocket message that is taken.")
    messages_per_second: int = Field(
        default=100, ge=1, description="WebSocket messages taken per second and connection, with a burst of ten times."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_concurrent_requests > self.max_concurrent_requests:
            raise ValueError("min_concurrent_requests is larger than max_concurrent_requests")
        return self
