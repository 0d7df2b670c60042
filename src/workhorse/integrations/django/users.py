"""Callers that Django's own auth knows: the policies' scopes are the permissions and groups of Django's users.

    service = Service(get_asgi_application(), identity=DjangoUsers(), policies=[
        Policy("* /admin/login/", public=True),
        Policy("* /admin/{rest:path}", scope="staff"),
        Policy("POST /transfers", scope="bank.add_transfer"),
    ])

The guard stands before Django, so it reads the session cookie itself: the session's data from SESSION_ENGINE, the user
and its permissions from AUTHENTICATION_BACKENDS, with the checks of `django.contrib.auth.get_user`. It only reads. What
Django would change then (a session of a former SECRET_KEY is given a new key) Django changes itself a moment later,
since a key that changed here would be lost with the reply's cookie.

The look-up runs in threads of its own. Each has its connections for the length of one look-up, so the project's
database wants `OPTIONS = {"pool": True}`.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, cast
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django import http, shortcuts
from django.apps import apps
from django.conf import settings
from django.contrib import auth
from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.utils import crypto

from workhorse.asgi import Reply, Scope
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.identity.cookies import cookie_values
from workhorse.identity.known import Known
from workhorse.identity.reason import Reason, Refused
from workhorse.identity.scheme import Credentials, NotAuthenticated, Surroundings
from workhorse.integrations.django.place import below_sync_caller, close_here
from workhorse.principal import Kind, Principal

__all__ = ["DjangoUsers", "scopes_of"]

# Django has no types.
AUTH: Final[Any] = auth
DJANGO_APPS: Final[Any] = apps
DJANGO_SETTINGS: Final[Any] = settings
SHORTCUTS: Final[Any] = shortcuts
CRYPTO: Final[Any] = crypto
HTTP: Final[Any] = http
AWAY: Final = cast("tuple[type[Exception], ...]", (Error, OSError))
MISSET: Final = cast("type[Exception]", ImproperlyConfigured)

# A session that is signed into its cookie may be long; no browser keeps a longer one.
MAX_COOKIE_BYTES: Final = 4_096
MAX_RECALL_SECONDS: Final = 60
MAX_SCOPE_CHARACTERS: Final = 200
NEEDED: Final = ("django.contrib.auth", "django.contrib.sessions")


def scopes_of(user: Any) -> Iterable[str]:
    """What a user of Django's may do, as scopes of policies.

    Its permissions as Django writes them (`bank.add_transfer`; a superuser has all of them), `group:` and the name of
    each of its groups, with `_` in the place of blanks, and `staff` and `superuser`.
    """
    yield from user.get_all_permissions()
    groups = getattr(user, "groups", None)
    if groups is not None:
        for name in groups.values_list("name", flat=True):
            yield f"group:{'_'.join(str(name).split())}"
    for word in ("staff", "superuser"):
        if getattr(user, f"is_{word}", False):
            yield word


class DjangoUsers:
    """Knows callers by the session cookie of `django.contrib.auth` (see `identity.scheme.Scheme`).

    Args:
        scopes: what a user may do; by default `scopes_of`. Called in a thread, where the ORM works.
        recall_seconds: for how long a caller is known without asking again. For so long a session that was ended, or a
            permission that was taken away, is still good for the policies; Django's own checks are not concerned. 0 to
            60.
        max_known: how many callers are remembered for that.
        threads: look-ups at once, each with a connection.

    Raises:
        SettingsError: a number makes no sense.
    """

    def __init__(
        self,
        *,
        scopes: Callable[[Any], Iterable[str]] = scopes_of,
        recall_seconds: float = 0.0,
        max_known: int = 10_000,
        threads: int = 8,
    ) -> None:
        if not 0 <= recall_seconds <= MAX_RECALL_SECONDS:
            raise SettingsError(f"recall_seconds is {recall_seconds:g}; it must be 0 to {MAX_RECALL_SECONDS}")
        if max_known < 1 or threads < 1:
            raise SettingsError("max_known and threads must be at least 1")
        self.challenge: Final = b""
        """None: there is no authentication scheme for cookies (RFC 9110, section 11)."""
        self._scopes = scopes
        self._recall_seconds = recall_seconds
        self._known = Known[tuple[Principal, float]](capacity=max_known, max_bytes=MAX_COOKIE_BYTES)
        self._count = threads
        self._threads: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return "<DjangoUsers>"

    @property
    def cookie_names(self) -> tuple[str, ...]:
        """SESSION_COOKIE_NAME."""
        return (str(DJANGO_SETTINGS.SESSION_COOKIE_NAME),)

    def bind(self, surroundings: Surroundings) -> None:  # noqa: ARG002 - the protocol's words
        """See that the project has users and sessions.

        Raises:
            SettingsError: an app of Django's is not installed.
        """
        missing = [name for name in NEEDED if not DJANGO_APPS.is_installed(name)]
        if missing:
            raise SettingsError(f"DjangoUsers needs {' and '.join(map(repr, missing))} in INSTALLED_APPS")

    def presents(self, credentials: Credentials) -> bool:
        """Whether the cookie is there, good or bad."""
        cookie = credentials.cookie
        return cookie is not None and (bool(cookie_values(cookie, self._cookie)) or self._as_django(cookie) is not None)

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        """Whom the cookie was found to prove at most `recall_seconds` ago."""
        if not self._recall_seconds:
            return None
        try:
            known = self._known.find(self._read(credentials))
        except Refused:
            return None
        if known is None or not known[1] - self._recall_seconds <= now < known[1] or now >= known[0].expires:
            return None
        return known[0]

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        """The user whose session it is.

        Raises:
            NotAuthenticated: the session is nobody's, has ended, or its user is gone or not active.
            StoreUnavailable: the database or whatever keeps the sessions does not answer.
        """
        try:
            key = self._read(credentials)
            principal = await self._look(key, now)
        except Refused as refused:
            raise NotAuthenticated(refused.reason) from None
        except AWAY as error:
            raise StoreUnavailable from error
        if self._recall_seconds:
            self._known.keep(key, (principal, now + self._recall_seconds))
        return principal

    async def open(self) -> None:
        """See that the sessions' engine is there.

        Raises:
            SettingsError: it cannot be imported.
        """
        try:
            import_module(DJANGO_SETTINGS.SESSION_ENGINE)
        except (ImportError, MISSET) as error:
            raise SettingsError(f"SESSION_ENGINE is {DJANGO_SETTINGS.SESSION_ENGINE!r}: {error}") from error

    async def close(self) -> None:
        """Let the threads end, and forget who was known."""
        self._known.clear()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    def login_redirect(self, scope: Scope) -> Reply | None:
        """What a person's browser gets in place of a 401: LOGIN_URL, which leads back to the page.

        None for whatever is no navigation of a person's, which gets its 401.
        """
        if scope["type"] != "http" or scope["method"] != "GET" or not _is_navigation(scope):
            return None
        path, query = scope["path"], scope.get("query_string", b"").decode("latin-1")
        page = quote(path, safe="/") + (f"?{query}" if query else "")
        login = SHORTCUTS.resolve_url(DJANGO_SETTINGS.LOGIN_URL)
        target = f"{login}?{AUTH.REDIRECT_FIELD_NAME}={quote(page, safe='/')}"
        headers = ((b"location", target.encode("ascii")), (b"cache-control", b"no-store"), (b"content-length", b"0"))
        return Reply(status=302, headers=headers, body=b"")

    @property
    def _cookie(self) -> bytes:
        return str(DJANGO_SETTINGS.SESSION_COOKIE_NAME).encode()

    def _as_django(self, cookie: bytes) -> str | None:
        """The cookie as Django's own request has it."""
        found: str | None = HTTP.parse_cookie(cookie.decode("latin-1")).get(DJANGO_SETTINGS.SESSION_COOKIE_NAME)
        return found

    def _read(self, credentials: Credentials) -> bytes:
        cookie = credentials.cookie or b""
        values = cookie_values(cookie, self._cookie)
        # Of several one must be planted. So it must where Django, which is more lenient with blanks, finds another.
        if len(values) > 1 or self._as_django(cookie) != (values[0].decode("latin-1") if values else None):
            raise Refused(Reason.AMBIGUOUS)
        if not values or not values[0]:
            raise Refused(Reason.MISSING)
        if len(values[0]) > MAX_COOKIE_BYTES:
            raise Refused(Reason.TOO_LARGE)
        return values[0]

    async def _look(self, key: bytes, now: float) -> Principal:
        if below_sync_caller():
            found: Principal = await sync_to_async(self._find, thread_sensitive=True)(key, now)
            return found
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="workhorse-users")

        def find() -> Principal:
            try:
                return self._find(key, now)
            finally:
                close_here()

        alone: Principal = await sync_to_async(find, thread_sensitive=False, executor=cast("Any", self._threads))()
        return alone

    def _find(self, key: bytes, now: float) -> Principal:
        """The user, by the steps of `django.contrib.auth.get_user`, less those that write."""
        try:
            text = key.decode("ascii")
        except UnicodeDecodeError:
            raise Refused(Reason.MALFORMED) from None
        session = import_module(DJANGO_SETTINGS.SESSION_ENGINE).SessionStore(text)
        try:
            path, subject = session[AUTH.BACKEND_SESSION_KEY], session[AUTH.SESSION_KEY]
        except KeyError:  # a visitor's session, or one that has ended
            raise Refused(Reason.UNKNOWN) from None
        if path not in DJANGO_SETTINGS.AUTHENTICATION_BACKENDS:
            raise Refused(Reason.UNKNOWN)
        model = AUTH.get_user_model()
        user = AUTH.load_backend(path).get_user(model._meta.pk.to_python(subject))  # noqa: SLF001 - so Django reads it
        if user is None or not _is_of(session, user):
            raise Refused(Reason.REVOKED)
        return Principal(
            subject=str(subject),
            kind=Kind.SESSION,
            scopes=frozenset(one for one in self._scopes(user) if len(one) <= MAX_SCOPE_CHARACTERS),
            expires=now + session.get_expiry_age(),
            credential=sha256(key).hexdigest()[:16],
            claims=MappingProxyType({"username": user.get_username()}),
        )


def _is_navigation(scope: Scope) -> bool:
    """Whether a person goes to the page (Fetch Metadata): neither a script nor what a browser fetches ahead."""
    names = dict(scope["headers"])
    return names.get(b"sec-fetch-mode") == b"navigate" and b"sec-purpose" not in names


def _is_of(session: Any, user: Any) -> bool:
    """Whether the session was begun with the password that the user has now: a new one ends all others."""
    if not hasattr(user, "get_session_auth_hash"):
        return True
    kept = session.get(AUTH.HASH_SESSION_KEY)
    if not kept:
        return False
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(CRYPTO.constant_time_compare(kept, one) for one in hashes)
