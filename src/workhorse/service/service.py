"""The service: an app, and around it the rooms.

    Service ── operations (/-/live, /-/ready, /-/metrics)
       └── Guard ── UnitLayer ── the app

Building a service starts nothing and reads no settings, so that a module may be imported by tools and tests. It
comes to life with the server's lifespan event, and is refused to serve before.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from workhorse.asgi import ASGIApp, Receive, Scope, Send, send_reply
from workhorse.bridge import in_trio
from workhorse.contracts import Database
from workhorse.errors import DatabaseUnavailable, SettingsError, StartupError, WorkhorseError
from workhorse.guard import Guard, compile_plan
from workhorse.guard.controls import ControlMap, control_map
from workhorse.identity.scheme import Identity, Scheme, Surroundings
from workhorse.integrations import (
    AppRoute,
    adopt,
    describe,
    innermost,
    is_known,
    is_routed,
    list_routes,
    routed_by,
    routes_in_order,
)
from workhorse.integrations.agreement import disagreements
from workhorse.integrations.openapi import Facts
from workhorse.integrations.routes import policies_of, sample_of, uncovered
from workhorse.journal import EventType, EventTypes
from workhorse.migrations import Migrations
from workhorse.policy import Policy, PolicyTable
from workhorse.problems import plain_problem
from workhorse.service.audit_files import is_of_audit_files, with_audit_files
from workhorse.service.background import bind_caching, counting, working
from workhorse.service.hosts import host_of
from workhorse.service.lifespan import AppLifespan
from workhorse.service.operations import (
    Phase,
    Probe,
    is_operational,
    live_reply,
    may_read_metrics,
    metrics_reply,
    nothing_here,
    parse_networks,
    ready_reply,
)
from workhorse.service.privacy import forgetting, guard_privacy
from workhorse.service.rooms import Rooms, open_rooms
from workhorse.service.stores import reply_keys
from workhorse.service.supervision import say, tie_to_parent
from workhorse.service.tables import asking
from workhorse.service.warehouse import storing
from workhorse.service.watching import watching
from workhorse.settings import Settings, load_settings
from workhorse.telemetry.metrics import Registry
from workhorse.telemetry.redaction import redact_text
from workhorse.units import UnitLayer
from workhorse.units.asgi import UnitOptions
from workhorse.units.idempotency import Caller, caller_of

if TYPE_CHECKING:
    from workhorse.analytics.live import Live
    from workhorse.analytics.tables import Tables
    from workhorse.analytics.warehouse import Warehouse
    from workhorse.caching import Caches, Leases
    from workhorse.feeds import Feed
    from workhorse.jobs import Job, Schedule
    from workhorse.privacy import Privacy
    from workhorse.relays import Relay

__all__ = ["Service"]

# How long a readiness probe waits for the database. Below the usual probe's own second.
PING_SECONDS = 0.8


class Service:
    """Makes a service of an ASGI app. Serve this instead of the app.

    Args:
        app: any ASGI 3 app. FastAPI and Starlette apps are told to answer errors as problem documents, where they
            have no handlers of their own for them.
        policies: what single routes ask for.
        migrations: sets of the app's own, applied beside Workhorse's.
        identity: says who calls, such as `Bearer()`. With one, every route needs a policy, and callers of those that
            are not public must be known.
        jobs: the background jobs that the app enqueues. Each runs in `workhorse worker`, and in development in the
            service's own processes too.
        schedules: when jobs are enqueued by the clock.
        feeds: what reads the journal, in `workhorse worker` as jobs are run.
        relays: what publishes events to outside systems, where feeds are read.
        events: the kinds of events that the app emits and reads. With any, an event of another kind is refused.
        caches: what the app caches; they get their store from the settings.
        leases: what one process alone may do at a time; likewise.
        privacy: what the app knows of people: it seals what events say of them, and masks it in logs.
        tables: queries whose rows are answered as Arrow, Parquet, CSV or JSON, on connections of their own.
        live: measures that clients watch as they change, on a connection of their own.
        warehouse: what is copied to an engine of its own, and asked there.
        database: where units run, such as `SQLAlchemyDatabase(engine)` over the app's own engine; by default a pool of
            the service's own. It has to lead to the database of the settings, where replies, jobs and events are.
        caller: names the sender of a request, as the scope of its Idempotency-Keys; by default the principal
            that the identity knows, else the Authorization header.
        own_errors: the replies that the app's framework makes of errors, and its OpenAPI document, stay as the app's
            clients know them. By default both become what Workhorse's own are: problem documents, and told of.
        settings: by default what `load_settings` finds when the service starts.

    Raises:
        SettingsError: a policy is malformed, or two match the same requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        policies: Sequence[Policy] = (),
        migrations: Sequence[Migrations] = (),
        identity: Identity | Scheme | None = None,
        jobs: "Sequence[Job[Any, Any]]" = (),
        schedules: "Sequence[Schedule]" = (),
        feeds: "Sequence[Feed]" = (),
        relays: "Sequence[Relay]" = (),
        events: "Sequence[EventType[Any]]" = (),
        caches: "Caches | None" = None,
        leases: "Leases | None" = None,
        privacy: "Privacy | None" = None,
        tables: "Tables | None" = None,
        live: "Live | None" = None,
        warehouse: "Warehouse | None" = None,
        database: Database | None = None,
        caller: Caller = caller_of,
        own_errors: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self._app = app
        self._policies = tuple(policies)
        self._table = PolicyTable(policies)
        self._migrations = tuple(migrations)
        self._identity = Identity(identity) if identity is not None and not isinstance(identity, Identity) else identity
        self._jobs = tuple(jobs)
        self._schedules = tuple(schedules)
        self._relays = tuple(relays)
        self._feeds = (
            *feeds,
            *(relay.feed for relay in relays),
            *(warehouse.feeds if warehouse is not None else ()),
        )
        self._privacy = privacy
        self._events = EventTypes(events, sealing=None if privacy is None else privacy.sealing)
        self._caches = caches
        self._leases = leases
        self._tables = tables
        self._watched = live
        self._warehouse = warehouse
        self._database = database
        self._caller = caller
        self._given = settings
        self._settings: Settings | None = settings
        self._phase = Phase.STOPPED
        self._checked: list[AppRoute] | None = None
        """The routes that were held against the policies."""
        self._broken = False
        """Whether the app's own lifespan has ended with an error while it served."""
        self._rooms: Rooms | None = None
        self._stack: ASGIApp | None = None
        self._trio: ASGIApp | None = None
        """What serves it on Trio, if that has been asked for."""
        # What its framework's app is looked at and told; what is called is the app as it was given.
        self._routed = innermost(app)
        self._reader = routed_by(self._routed)
        self._host = host_of(self._routed, database)
        if self._host is not None:
            self._jobs += self._host.jobs()
        self._own_errors = own_errors
        adopt(self._routed, own_errors=own_errors)
        self._describe()

    def __repr__(self) -> str:
        return f"<Service {self._phase.value} around {self._app!r}>"

    @property
    def settings(self) -> Settings:
        """The settings that the service runs with; before its start, those that it would."""
        if self._settings is None:
            self._settings = self._load_settings()
        return self._settings

    @property
    def migrations(self) -> tuple[Migrations, ...]:
        """The app's own sets."""
        return self._migrations

    @property
    def jobs(self) -> "tuple[Job[Any, Any], ...]":
        """The background jobs."""
        return self._jobs

    @property
    def schedules(self) -> "tuple[Schedule, ...]":
        """When jobs are enqueued by the clock."""
        return self._schedules

    @property
    def feeds(self) -> "tuple[Feed, ...]":
        """What reads the journal, those of the relays and of the warehouse among them."""
        return self._feeds

    @property
    def tables(self) -> "Tables | None":
        """What the app asks its database, as Arrow."""
        return self._tables

    @property
    def warehouse(self) -> "Warehouse | None":
        """What is copied to an engine of its own."""
        return self._warehouse

    @property
    def privacy(self) -> "Privacy | None":
        """What the app knows of people."""
        return self._privacy

    @property
    def live(self) -> "Live | None":
        """What clients watch."""
        return self._watched

    @property
    def relays(self) -> "tuple[Relay, ...]":
        """What publishes events to outside systems."""
        return self._relays

    @property
    def caches(self) -> "Caches | None":
        """What the app caches."""
        return self._caches

    @property
    def leases(self) -> "Leases | None":
        """What one process alone may do at a time."""
        return self._leases

    @property
    def events(self) -> EventTypes:
        """The kinds of events that are declared."""
        return self._events

    @property
    def metrics(self) -> Registry:
        """The metrics of all workers, open while the service runs.

        Raises:
            StartupError: the service does not run.
        """
        return self._open_rooms().metrics

    @property
    def rooms(self) -> Rooms:
        """What is open while the service runs.

        Raises:
            StartupError: the service does not run.
        """
        return self._open_rooms()

    def _open_rooms(self) -> Rooms:
        if self._rooms is None:
            raise StartupError("the service does not run: its server has not sent the lifespan event yet")
        return self._rooms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if in_trio():
            await self._on_trio()(scope, receive, send)
            return
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(scope, receive, send)
        elif kind == "http" and is_operational(scope):
            await self._operate(scope, send)
        elif self._stack is not None:
            await self._stack(scope, receive, send)
        elif kind == "http":
            detail = "The service has not started: its server must send lifespan events (ASGI lifespan 2.0)."
            await send_reply(plain_problem(503, detail), send)
        else:
            await send({"type": "websocket.close", "code": 1013, "reason": "The service has not started."})

    def _on_trio(self) -> ASGIApp:
        """What serves this service on Trio: the service itself on asyncio, with the app on Trio."""
        if self._trio is None:
            from workhorse.bridge.host import TrioHost  # noqa: PLC0415 - Trio is there only where a server runs on it

            def around(app: ASGIApp) -> ASGIApp:
                self._app = app
                return self

            self._trio = TrioHost(self._app, around=around)
        return self._trio

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the server's lifespan: rooms, then the app; at the end the reverse."""
        await receive()
        if self._phase is not Phase.STOPPED:
            await send({"type": "lifespan.startup.failed", "message": "this Service runs already; make another one"})
            return
        self._phase = Phase.STARTING
        started = False
        tie_to_parent()
        try:
            self._settings = self._given if self._given is not None else self._load_settings()
            async with open_rooms(self._settings, self._migrations) as rooms:
                composed = self._compose(self._settings, rooms)
                self._rooms = rooms
                async with AsyncExitStack() as stack:
                    if self._host is not None:
                        stack.push_async_callback(self._host.close)
                    if self._identity is not None:
                        await stack.enter_async_context(self._identity)
                    await stack.enter_async_context(self._lifespan(scope))
                    self._check_policies()  # again, since an app may add routes at its start
                    await stack.enter_async_context(counting(self, rooms))
                    await stack.enter_async_context(asking(self, rooms))
                    await stack.enter_async_context(storing(self, rooms))
                    await stack.enter_async_context(watching(self, rooms))
                    await stack.enter_async_context(working(self, rooms))
                    await stack.enter_async_context(forgetting(self, rooms))
                    self._stack, self._phase, started = composed, Phase.SERVING, True
                    await send({"type": "lifespan.startup.complete"})
                    if rooms.run_folder is not None:
                        (rooms.run_folder / "started").touch()
                    await receive()
                    self._phase = Phase.DRAINING
        except Exception as error:  # noqa: BLE001 - an error that left here would read as "no lifespan", and be served
            reason = str(error) if isinstance(error, WorkhorseError) else redact_text("".join(format_exception(error)))
            say(f"workhorse: the service {'failed to stop cleanly' if started else 'cannot start'}: {reason}")
            await send({"type": f"lifespan.{'shutdown' if started else 'startup'}.failed", "message": reason})
            return
        finally:
            self._phase, self._stack, self._rooms = Phase.STOPPED, None, None
        await send({"type": "lifespan.shutdown.complete"})

    def _lifespan(self, scope: Scope) -> AppLifespan:
        def crashed(error: BaseException) -> None:
            self._broken = True
            reason = redact_text("".join(format_exception(error)))
            say(f"workhorse: the app's lifespan ended while it served; it is not ready any more, restart it: {reason}")

        self._broken = False
        server = self.settings.server
        return AppLifespan(
            self._app,
            scope,
            start_seconds=server.start_timeout_seconds,
            stop_seconds=server.stop_timeout_seconds,
            crashed=crashed,
        )

    def _compose(self, settings: Settings, rooms: Rooms) -> ASGIApp:
        self._check_policies()
        guard_privacy(self, rooms)
        if self._identity is not None:
            self._identity.bind(
                Surroundings(
                    settings=settings,
                    log=rooms.log,
                    sessions=rooms.stores.sessions,
                    api_keys=rooms.stores.api_keys,
                    counters=rooms.stores.counters,
                    recorder=rooms.trail,
                )
            )
        bind_caching(self, rooms)
        if not is_known(self._routed):
            rooms.log.event(
                "warning", "service.unknown_framework", app=repr(self._app), why="its routes are not compared"
            )
        self._describe()  # again, for an app that has customised its document, and cookies that are named by now
        parse_networks(settings.operations.metrics_networks)
        plan = compile_plan(settings.guard, self._policies, production=settings.production)
        keys = reply_keys(settings)
        app = self._with_fast_routes()
        unit: ASGIApp = UnitLayer(
            app if self._host is None else self._host.inside(app),
            self.database_of(rooms),
            # What the framework's own connection reads, it reads there.
            replica=rooms.replica if self._host is None else None,
            policies=self._table,
            caller=self._caller,
            options=UnitOptions(
                attempts=settings.database.attempts,
                keep_seconds=settings.idempotency.keep_seconds,
                max_reply_bytes=settings.idempotency.max_reply_bytes,
                wait_seconds=settings.database.statement_timeout_seconds,
                reply_key=keys[0] if keys else None,
                former_reply_keys=keys[1:],
            ),
            events=self._events,
            metrics=rooms.metrics,
        )
        inner = unit if self._host is None else self._host.enclose(unit)
        return Guard(
            with_audit_files(inner, settings, self.database_of(rooms), self._policies),
            plan,
            identity=self._identity,
            counters=rooms.stores.counters,
            log=rooms.log,
            access_lines=settings.log.access,
            metrics=rooms.metrics,
            trail=rooms.trail,
            routed=self._reader,
        )

    def database_of(self, rooms: Rooms) -> Database:
        """Where units run."""
        if self._database is not None:
            return self._database
        return rooms.database if self._host is None else self._host.database

    def _load_settings(self) -> Settings:
        """What is found; in a Django project what its own settings say, too."""
        return load_settings() if self._host is None else self._host.settings()

    def _with_fast_routes(self) -> ASGIApp:
        """The app, and before it what serves the routes whose policies are fast."""
        if not any(policy.fast for policy in self._policies):
            return self._app
        if self._trio is not None:
            raise SettingsError("a fast route is served past its framework, on asyncio; on Trio take `fast` out")
        # Only here, because it needs FastAPI.
        from workhorse.integrations.fast_routes import fast_layer  # noqa: PLC0415

        return fast_layer(self._app, self._policies)

    def _describe(self) -> None:
        """Make the app's OpenAPI document tell of the policies and the identity."""
        if self._own_errors:
            return
        describe(self._routed, Facts(policies=self._table, identity=self._identity, settings=lambda: self.settings))

    def controls(self) -> ControlMap:
        """What guards each route (see `workhorse check`). Starts nothing; reads the settings.

        Raises:
            SettingsError: the settings or policies would be refused at start-up.
        """
        self._check_policies()
        settings = self.settings
        plan = compile_plan(settings.guard, self._policies, production=settings.production)
        routes = list_routes(self._routed)
        rows: list[tuple[str, str, str]] = []
        if routes is None:  # they cannot be asked, so there is what the policies say of them
            rows = [(policy.pattern, "", f"{policy.method} {sample_of(policy.path)}") for policy in self._policies]
        for route in routes or ():
            handler = f"{route.source} {route.handler}".strip()
            sample = sample_of(route.path)
            for method in [method for method, _ in policies_of(route, self._table)] or [route.method]:
                asked = "GET" if method == "WEBSOCKET" else method
                rows.append((f"{method} {route.path}", handler, f"{asked} {sample}"))
        if routes is not None:
            served = [policy for policy in self._policies if is_of_audit_files(settings, policy)]
            rows += [(policy.pattern, "the audit log", f"GET {sample_of(policy.path)}") for policy in served]
        return control_map(rows, plan.routes, settings.guard, identity=self._identity is not None)

    def _check_policies(self) -> None:
        """Refuse policies and routes of which one is not for the other.

        A misspelt policy would silently be a control that went missing; so would a route that nobody thought of.
        """
        lost = [
            policy.pattern
            for policy in self._policies
            if not is_routed(self._routed, policy) and not is_of_audit_files(self.settings, policy)
        ]
        if lost:
            raise SettingsError(
                f"the app has no route for the policies {', '.join(repr(pattern) for pattern in lost)}:"
                " correct the path or the method, or take the policy out"
            )
        if self._identity is None:
            scoped = [policy.pattern for policy in self._policies if policy.scopes]
            if scoped:
                raise SettingsError(
                    f"the policies {', '.join(repr(pattern) for pattern in scoped)} ask for a scope, but nobody says"
                    " who calls: give the Service an identity, such as identity=Bearer()"
                )
            return
        routes, first_wins = routes_in_order(self._routed) or ([], False)
        if routes == self._checked:
            return  # of two looks at the start, the second is for what came between
        open_routes = uncovered(list_routes(self._routed) or (), self._table)
        if open_routes:
            listed = "".join(f"\n  {route.method} {route.path}  {route.source}".rstrip() for route in open_routes)
            raise SettingsError(
                f"with an identity every route needs a policy, and these have none:{listed}\n"
                "Write one for each: with a scope, or with public=True for those that anybody may call."
            )
        self._refuse(disagreements(routes, self._table, first_wins=first_wins))
        self._checked = routes

    def _refuse(self, faults: Iterable[str]) -> None:
        listed = "".join(f"\n  {fault}" for fault in faults)
        if listed:
            raise SettingsError(f"the app's routes and its policies do not agree:{listed}")

    async def _operate(self, scope: Scope, send: Send) -> None:
        reply = nothing_here()
        if scope["method"] in {"GET", "HEAD"}:
            match scope["path"]:
                case "/-/live":
                    reply = live_reply()
                case "/-/ready":
                    reply = ready_reply(await self._probe())
                case "/-/metrics" if self._rooms is not None:
                    operations = self.settings.operations
                    token = operations.token.get_secret_value() if operations.token else None
                    if may_read_metrics(scope, parse_networks(operations.metrics_networks), token):
                        # In a thread, because it reads the files of all workers.
                        reply = metrics_reply(await asyncio.to_thread(self._rooms.metrics.render))
                case _:
                    pass
        await send_reply(reply, send, head=scope["method"] == "HEAD")

    async def _probe(self) -> Probe:
        rooms = self._rooms
        if rooms is None:
            return Probe(self._phase, app=not self._broken, database=False)
        phase = self._phase
        if rooms.run_folder is not None and (rooms.run_folder / "draining").exists():
            phase = Phase.DRAINING
        try:
            await rooms.database.ping(deadline_seconds=PING_SECONDS)
        except DatabaseUnavailable:
            return Probe(phase, app=not self._broken, database=False)
        return Probe(phase, app=not self._broken, database=True)
