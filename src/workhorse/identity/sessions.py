"""Sessions that live on the server, known by a secret in a cookie, and ended there and then.

    sessions = Sessions()
    service = Service(app, identity=Identity(sessions))

    await sessions.login("alice", scopes=["accounts:read"])        in the handler that has checked the password
    await sessions.logout()

The cookie holds 256 random bits and nothing else. The store holds their SHA-256, so who reads the store can open no
session, and a signing key that could leak does not exist. Each login makes a new secret, and ends the session that the
request came with in the same step: a secret that was planted before the login is worth nothing after it (CWE-384).
What has ended never comes back, because a store changes sessions and never writes them whole: a request that is under
way during a logout cannot undo it.

Each request asks the store once. With `recall_seconds` it asks less often, and a session that was ended by another
process works on for that long.

A cookie that is no good is left where it is. To delete it with the refusal would be wrong: a request that was sent
before a login ended its secret may be answered after, and would take the new cookie away.

There is no `Clear-Site-Data` at a logout. Replies to known callers are `no-store`, so there is no cache to clear, and
the browser takes seconds for it; "storage" would delete what other apps of the origin keep, drafts and service workers
included. An app that has stored personal data in the browser adds the header to its own reply.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from secrets import token_urlsafe
from types import MappingProxyType
from typing import Any, Final

from workhorse.context import RequestContext, current_request
from workhorse.contracts import Recorder, SessionRecord, SessionStore
from workhorse.errors import PROBLEM_PREFIX, Problem, SettingsError, StartupError, StoreUnavailable
from workhorse.identity.cookies import CookieRules, SameSite, is_loopback
from workhorse.identity.reason import Reason, Refused
from workhorse.identity.scheme import Credentials, NotAuthenticated, Surroundings
from workhorse.identity.session import (
    Grants,
    Session,
    SessionPrincipal,
    pack_data,
    pack_grants,
    presented_by,
    principal_of,
    session_of,
    unpack_grants,
)
from workhorse.identity.texts import TextRefused, is_text
from workhorse.principal import ANONYMOUS, Principal

__all__ = ["SessionChanged", "Sessions"]

TOUCH_SECONDS: Final = 60
"""How often it is noted that a session is in use; a session that idles may end so much early."""
MAX_RECALL_SECONDS: Final = 60
MAX_ABSOLUTE_SECONDS: Final = 400 * 86_400
MAX_SUBJECT: Final = 1_000

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class SessionChanged(Problem):
    """409: the session was changed by another request, or has ended, since this one read it. Nothing was written."""

    status = 409
    type = PROBLEM_PREFIX + "session-changed"
    title = "The session was changed by another request"

    def __init__(self) -> None:
        super().__init__("Nothing was written. Send the request again.")


class Sessions:
    """Knows callers by a session cookie, and begins and ends sessions.

    The methods that handlers call need a request, and one whose reply has not begun: they set the cookie on it. They
    are not part of the unit of work: a login stands even where the unit is rolled back.

    Args:
        store: where sessions are kept; by default that of the service.
        idle_seconds: a session ends when it is not used for so long; at least 60.
        absolute_seconds: it ends so long after the login, whatever is done with it. Where this or `idle_seconds` is
            made shorter, sessions that were begun before end earlier too.
        cookie: the cookie's name, to which `__Host-` is added.
        same_site: `Lax` or `Strict` (see `CookieRules`).
        plain_http_in_development: outside production, give a browser on this very machine that does not use TLS a
            cookie that it takes. Off, development needs TLS as production does.
        recall_seconds: how long a session is taken for alive without asking the store: the longest that one which was
            ended elsewhere may still work. 0 to 60.
        max_known: how many sessions are remembered for that.
        max_data_bytes: the most that a session's data may take, encoded.

    Raises:
        SettingsError: a name or number makes no sense.
    """

    def __init__(
        self,
        store: SessionStore | None = None,
        *,
        idle_seconds: int = 1800,
        absolute_seconds: int = 43_200,
        cookie: str = "session",
        same_site: SameSite = "Lax",
        plain_http_in_development: bool = True,
        recall_seconds: float = 0.0,
        max_known: int = 10_000,
        max_data_bytes: int = 16_384,
    ) -> None:
        if not TOUCH_SECONDS <= idle_seconds <= absolute_seconds <= MAX_ABSOLUTE_SECONDS:
            raise SettingsError(
                f"idle_seconds={idle_seconds}, absolute_seconds={absolute_seconds}: let a session idle for at least"
                f" {TOUCH_SECONDS} s, and live for at least as long and at most {MAX_ABSOLUTE_SECONDS} s (400 days)"
            )
        if not 0 <= recall_seconds <= MAX_RECALL_SECONDS:
            raise SettingsError(
                f"recall_seconds is {recall_seconds:g}; it must be 0 to {MAX_RECALL_SECONDS}: for so long a session"
                " that was ended may still work"
            )
        if max_known < 1 or max_data_bytes < 64:
            raise SettingsError("max_known must be at least 1 and max_data_bytes at least 64")
        self.challenge: Final = b""
        """None: there is no authentication scheme for cookies (RFC 9110, section 11)."""
        self._store = store
        self._own_store = store is not None
        self._recorder: Recorder | None = None
        self._idle = idle_seconds
        self._absolute = absolute_seconds
        self._cookies = CookieRules(name=cookie, same_site=same_site)
        self._plain_wanted = plain_http_in_development
        self._recall_seconds = recall_seconds
        self._max_known = max_known
        self._max_data = max_data_bytes
        self._known: dict[bytes, tuple[SessionPrincipal, float]] = {}
        self._endings = 0
        """Counts what this process has ended or changed: an answer that was asked for before is not remembered."""

    def __repr__(self) -> str:
        return f"<Sessions of {self._idle} s idle and {self._absolute} s at most, cookie {self._cookies.name}>"

    @property
    def cookie_names(self) -> tuple[str, ...]:
        """What the cookie may be called, the name that is used without TLS last."""
        return tuple(name.decode() for name in self._cookies.names)

    def bind(self, surroundings: Surroundings) -> None:
        """Take the service's store if none is named in the code, and learn whether this is production."""
        if not self._own_store:
            # Anew at each start: the stores of a run that has ended are closed.
            self._store = surroundings.sessions
        self._recorder = surroundings.recorder
        plain = self._plain_wanted and not surroundings.settings.production
        self._cookies = replace(self._cookies, plain_allowed=plain)

    def presents(self, credentials: Credentials) -> bool:
        """Whether the cookie is there, good or bad."""
        return credentials.cookie is not None and self._cookies.is_presented(credentials.cookie)

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        """The caller, if the store said at most `recall_seconds` ago that the session is alive."""
        if not self._known:
            return None
        try:
            digest = digest_of(self._cookies.read(credentials.cookie))
        except Refused:
            return None
        principal, until = self._known.get(digest, (None, 0.0))
        if principal is None or not until - self._recall_seconds <= now < until or now >= principal.record.ends:
            return None
        return principal

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        """The caller, as the store says.

        Raises:
            NotAuthenticated: there is no such session, or the cookie is malformed or there twice.
            StoreUnavailable: the store does not answer.
        """
        endings = self._endings
        try:
            principal = await self._find(credentials, now)
        except Refused as refused:
            raise NotAuthenticated(refused.reason) from None
        if now - principal.record.seen >= TOUCH_SECONDS and not credentials.at_rest:
            principal = await self._touch(principal, now)
        if endings == self._endings:
            self._remember(principal, now)
        return principal

    async def open(self) -> None:
        """See that there is a store.

        Raises:
            StartupError: there is none.
        """
        self._given_store()

    async def close(self) -> None:
        """Forget which sessions were alive."""
        self._known.clear()

    async def login(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        roles: Iterable[str] = (),
        tenant: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> Session:
        """Begin a session, with a new secret, and end the one that the request came with.

        Call it only when you know who it is: this is the step that makes the client the subject.

        Args:
            subject: whose session it is; at most 1,000 characters.
            scopes: what it may do.
            roles: of the subject.
            tenant: the organisation that the subject acts for.
            data: what the app wants to keep in it, of what JSON can express. It is also the principal's `claims`.

        Raises:
            TextRefused: the subject is empty, too long or holds what is no text.
            ValueError: the data are too large.
            StoreUnavailable: the store does not answer. The client's cookie is as it was.
            Problem: 503, where nobody logs in without a record of it (`records.fail_closed`), and there is none.
        """
        request, now = current_request(), time.time()
        check_subject(subject)
        secret = token_urlsafe(32)
        record = SessionRecord(
            digest=digest_of(secret.encode()),
            public_id=token_urlsafe(12),
            subject=subject,
            created=now,
            seen=now,
            expires=now + self._absolute,
            idle_seconds=self._idle,
            grants=pack_grants(Grants(tuple(sorted(set(scopes))), tuple(sorted(set(roles))), tenant)),
            data=pack_data(data or NOTHING, max_bytes=self._max_data),
            version=0,
        )
        presented = presented_by(request)
        await self._given_store().insert(record, replaces=presented.digest if presented is not None else None)
        try:
            await self._record("audit.login", record)
        except Problem:
            await self._given_store().delete(record.digest)  # nobody has its secret
            raise
        return self._hand_out(request, secret, record, instead_of=presented)

    async def renew(self, *, scopes: Iterable[str] | None = None, roles: Iterable[str] | None = None) -> Session:
        """Give the request's session a new secret, and perhaps other scopes or roles: after a second factor, say.

        It is the same session: its public id, its data and its end stay. The old secret is worth nothing any more.

        Raises:
            NotAuthenticated: the request came with no session.
            SessionChanged: another request has changed or ended it meanwhile.
            StoreUnavailable: the store does not answer. Whether the secret was replaced is not known.
        """
        request, now = current_request(), time.time()
        record = await self._fresh(request)
        if record is None:
            raise NotAuthenticated(Reason.MISSING)
        grants = unpack_grants(record.grants)
        if scopes is not None:
            grants = Grants(tuple(sorted(set(scopes))), grants.roles, grants.tenant)
        if roles is not None:
            grants = Grants(grants.scopes, tuple(sorted(set(roles))), grants.tenant)
        secret = token_urlsafe(32)
        fresh = record._replace(
            digest=digest_of(secret.encode()), seen=now, grants=pack_grants(grants), version=record.version + 1
        )
        if not await self._given_store().rotate(record.digest, fresh):
            raise SessionChanged
        return self._hand_out(request, secret, fresh, instead_of=record)

    async def logout(self) -> None:
        """End the request's session, and make the client forget its secret. Without a session, only the latter.

        Raises:
            StoreUnavailable: the store does not answer. The client keeps its cookie, so that it can try again.
        """
        request = current_request()
        record = presented_by(request)
        if record is not None:
            await self._given_store().delete(record.digest)
        self._leave(request, record)
        if record is not None:
            await self._record("audit.logout", record)

    async def current(self) -> Session | None:
        """The request's session; None if it came with none, or it has ended since.

        Raises:
            StoreUnavailable: the store does not answer; only where `recall_seconds` is set, which makes it be asked.
        """
        request = current_request()
        record = await self._fresh(request)
        return session_of(record, request) if record is not None else None

    async def list(self, subject: str) -> Sequence[Session]:
        """The subject's sessions that are alive, the last used first; at most 100.

        Whether the caller may see them is the handler's to decide.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        request, now = current_request(), time.time()
        records = await self._given_store().list(subject, now=now) if is_text(subject) else ()
        return [session_of(record, request) for record in records if now < self._ends(record)]

    async def revoke(self, public_id: str, *, subject: str | None = None) -> bool:
        """End one session of a subject. False if it has none of this name.

        Args:
            public_id: names the session.
            subject: whose it is; by default the owner of the request's session, and nobody else.

        Raises:
            NotAuthenticated: the request came with no session, and no subject is named.
            StoreUnavailable: the store does not answer.
        """
        request = current_request()
        mine = presented_by(request)
        if subject is None:
            if mine is None:
                raise NotAuthenticated(Reason.MISSING)
            subject = mine.subject
        ended = is_text(subject, public_id) and await self._given_store().delete_one(subject, public_id)
        self._forget(subject, public_id)
        if mine is not None and (mine.subject, mine.public_id) == (subject, public_id):
            self._leave(request, mine)
        if ended and self._recorder is not None:
            await self._recorder.record("audit.session_revoked", subject=subject, data={"sessions": 1})
        return ended

    async def revoke_all(self, subject: str, *, keep_current: bool = False) -> int:
        """End a subject's sessions, as after a change of the password. Returns how many it were.

        Args:
            subject: whose sessions end.
            keep_current: all but the request's own.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        request = current_request()
        mine = presented_by(request)
        mine = mine if mine is not None and mine.subject == subject else None
        keep = mine.public_id if mine is not None and keep_current else None
        count = await self._given_store().delete_all(subject, keep=keep) if is_text(subject) else 0
        self._forget(subject)
        if mine is not None and keep is None:
            self._leave(request, mine)
        if count and self._recorder is not None:
            await self._recorder.record("audit.session_revoked", subject=subject, data={"sessions": count})
        return count

    async def write(self, session: Session, data: Mapping[str, Any]) -> Session:
        """Replace a session's data, if nobody has since it was read. Returns the session as it is now.

        Raises:
            SessionChanged: another request wrote first, or has ended the session. Nothing was written.
            ValueError: the data are too large, or not of what JSON can express.
            StoreUnavailable: the store does not answer. Whether the data were written is not known.
        """
        record, encoded = session.record, pack_data(data, max_bytes=self._max_data)
        if not await self._given_store().write(record.digest, data=encoded, version=record.version):
            raise SessionChanged
        written = record._replace(data=encoded, version=record.version + 1)
        self._drop(record.digest)
        request = current_request()
        presented = presented_by(request)
        if presented is not None and presented.digest == record.digest:
            request.principal = principal_of(written)
        return session_of(written, request)

    async def _record(self, kind: str, record: SessionRecord) -> None:
        if self._recorder is not None:
            await self._recorder.record(kind, subject=record.subject, data={"session": record.public_id})

    def _given_store(self) -> SessionStore:
        if self._store is None:
            raise StartupError(
                "Sessions() has no store: give it one, such as Sessions(RedisSessions(...)), or run the app in a"
                " Service that has a cache or a database"
            )
        return self._store

    async def _find(self, credentials: Credentials, now: float) -> SessionPrincipal:
        record = await self._given_store().find(digest_of(self._cookies.read(credentials.cookie)), now=now)
        if record is None:
            # Ended, revoked or made up: the store does not know which any more.
            raise Refused(Reason.UNKNOWN)
        if now >= self._ends(record):
            raise Refused(Reason.EXPIRED)
        return principal_of(record)

    async def _touch(self, principal: SessionPrincipal, now: float) -> SessionPrincipal:
        try:
            await self._given_store().touch(principal.record.digest, seen=now)
        except StoreUnavailable:
            return principal  # noted with a later request; who calls is known
        return replace(principal, record=principal.record._replace(seen=now))

    def _ends(self, record: SessionRecord) -> float:
        """When it ends, by its own times and by those that are set now, whichever comes first."""
        return min(record.ends, record.seen + self._idle, record.created + self._absolute)

    async def _fresh(self, request: RequestContext) -> SessionRecord | None:
        """The request's session as the store has it now."""
        record = presented_by(request)
        if record is None or not self._recall_seconds:
            return record  # it was read when the request came
        return await self._given_store().find(record.digest, now=time.time())

    def _hand_out(
        self, request: RequestContext, secret: str, record: SessionRecord, *, instead_of: SessionRecord | None
    ) -> Session:
        """Give the client its new secret."""
        if instead_of is not None:
            self._drop(instead_of.digest)
        plain = is_loopback(request.client) and not getattr(request, "tls", True)
        self._forget_cookies(request)
        request.login_cookies += self._cookies.given(secret, plain=plain)
        request.principal = principal_of(record)
        return session_of(record, request)

    def _leave(self, request: RequestContext, record: SessionRecord | None) -> None:
        """The request has no session any more."""
        if record is not None:
            self._drop(record.digest)
            request.principal = ANONYMOUS
        self._forget_cookies(request)
        request.set_cookies += self._cookies.taken()

    def _forget_cookies(self, request: RequestContext) -> None:
        """A handler may run again, when its transaction lost to another: what it set before is replaced."""
        for lines in (request.set_cookies, request.login_cookies):
            lines[:] = [line for line in lines if not self._cookies.is_ours(line)]

    def _remember(self, principal: SessionPrincipal, now: float) -> None:
        if not self._recall_seconds:
            return
        if len(self._known) >= self._max_known:
            # The oldest eighth by when they were first remembered: what is in use comes back with its next request.
            for digest in tuple(self._known)[: 1 + self._max_known // 8]:
                del self._known[digest]
        self._known[principal.record.digest] = principal, now + self._recall_seconds

    def _drop(self, digest: bytes) -> None:
        """Ask the store again about one session."""
        self._endings += 1
        self._known.pop(digest, None)

    def _forget(self, subject: str, public_id: str | None = None) -> None:
        """Ask the store again about the subject's sessions, or the one of this name."""
        self._endings += 1
        for digest, (principal, _) in tuple(self._known.items()):
            record = principal.record
            if record.subject == subject and public_id in {None, record.public_id}:
                del self._known[digest]


def digest_of(secret: bytes) -> bytes:
    """What the store knows a secret by. Of its text, not of what that encodes: then there is one text, and no other."""
    return sha256(secret).digest()


def check_subject(subject: str) -> None:
    """Refuse what not every store could keep.

    Raises:
        TextRefused: it is empty, too long, or holds a NUL or half a surrogate pair.
    """
    if not subject or len(subject) > MAX_SUBJECT or not is_text(subject):
        raise TextRefused(
            f"the subject of a session has 1 to {MAX_SUBJECT} characters, no NUL and no half of a surrogate pair; this"
            f" one has {len(subject)} characters: log in the user's own id"
        )
