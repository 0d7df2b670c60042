"""One contestant of the history of changed rows, in a process of its own: Django and Continuum change what they meet.

Which one stands in its first argument: a key of `benchmarks.audit.history.LINES`.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Final, cast

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import BigInteger, Text, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column

from benchmarks.guard.traffic import request_scope, serve_one
from benchmarks.turns import act

__all__ = ["main"]

OWNER: Final = "Alexandra Constantinopoulos"


async def changed_by_sqlalchemy(url: str, *, continuum: bool) -> None:
    """A session for each change, and its history by Continuum where it is wanted."""
    if continuum:
        import_module("sqlalchemy_continuum").make_versioned(user_cls=None)  # in the benchmarks' own environment only

    class Base(DeclarativeBase):
        pass

    class Account(Base):
        __tablename__ = "accounts"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str] = mapped_column(Text)
        balance: Mapped[int] = mapped_column(BigInteger)

        if continuum:
            __versioned__: Any = {}

    configure_mappers()
    engine = create_engine(in_sqlalchemy(url), pool_size=1)
    Base.metadata.create_all(engine)
    with Session(engine) as orm, orm.begin():
        orm.add(Account(id=1, owner=OWNER, balance=0))

    async def once() -> None:
        with Session(engine) as orm, orm.begin():
            account = orm.get_one(Account, 1)
            account.balance += 1

    await act(once)
    engine.dispose()


async def changed_by_django(url: str, *, auditlog: bool) -> None:
    """`save()` in `atomic()`, and its history by django-auditlog where it is wanted."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection, models, transaction

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # there is one task, and it may wait
    parts = conninfo_to_dict(url)
    installed = ["django.contrib.contenttypes", "django.contrib.auth"]
    cast("Any", settings).configure(
        SECRET_KEY="of no use here",  # noqa: S106 - nothing is signed
        USE_TZ=True,
        LOGGING_CONFIG=None,
        INSTALLED_APPS=[*installed, *(["auditlog"] if auditlog else [])],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts["dbname"],
                "USER": parts.get("user", ""),
                "PASSWORD": parts.get("password", ""),
                "HOST": parts.get("host", ""),
                "PORT": parts.get("port", ""),
            }
        },
    )
    django.setup(set_prefix=False)
    call_command("migrate", verbosity=0)
    untyped: Any = models

    class Account(untyped.Model):  # type: ignore[misc]
        owner: Any = untyped.TextField()
        balance: Any = untyped.BigIntegerField()

        class Meta:
            app_label = "auth"  # of no app of its own
            db_table = "accounts"

    model: Any = Account
    if auditlog:
        import_module("auditlog.registry").auditlog.register(model)  # in the benchmarks' own environment only
    untyped_connection, atomic = cast("Any", connection), cast("Any", transaction).atomic
    with untyped_connection.schema_editor() as editor:
        editor.create_model(model)
    model.objects.create(id=1, owner=OWNER, balance=0)

    def change() -> None:
        with atomic():
            account = model.objects.get(id=1)
            account.balance += 1
            account.save()

    async def once() -> None:
        change()

    await act(once)
    untyped_connection.close()


async def changed_by_workhorse(url: str, *, audited: bool) -> None:
    """A request whose unit is on the app's own engine, and the row's history in it where it is wanted."""
    from fastapi import FastAPI
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    from workhorse import Audit, Policy, Service, unit
    from workhorse.settings import load_settings
    from workhorse.state.sqlalchemy import SQLAlchemyDatabase, session
    from workhorse.testing import service_client

    class Base(DeclarativeBase):
        pass

    class Account(Base):
        __tablename__ = "accounts"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str] = mapped_column(Text)
        balance: Mapped[int] = mapped_column(BigInteger)

    engine = create_async_engine(in_sqlalchemy(url), pool_size=2)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    app = FastAPI(openapi_url=None)

    @app.post("/accounts/{id}")
    async def change(id: int) -> None:  # noqa: A002 - the path's word
        account = await session(await unit()).get_one(Account, id)
        account.balance += 1

    audit = Audit(models=[Account]) if audited else False
    service = Service(
        app,
        policies=[Policy("POST /accounts/{id}", audit=audit)],
        database=SQLAlchemyDatabase(engine),
        settings=load_settings(
            database={"url": url}, log={"access": False, "level": "error"}, jobs={"in_process": "off"}
        ),
    )
    async with service_client(service):
        async with AsyncSession(engine) as orm, orm.begin():
            orm.add(Account(id=1, owner=OWNER, balance=0))

        async def once() -> None:
            headers = [(b"host", b"localhost"), (b"content-length", b"0")]
            answer = await serve_one(service, request_scope("POST", "/accounts/1", headers))
            if answer.status != 200:
                raise SystemExit(f"POST /accounts/1: {answer.status} {answer.body[:300]!r}")

        await act(once)
    await engine.dispose()


def in_sqlalchemy(url: str) -> str:
    """The URL with the driver that both ORMs use here."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


CONTESTANTS: Final[dict[str, Callable[[str], Awaitable[None]]]] = {
    "sqlalchemy": lambda url: changed_by_sqlalchemy(url, continuum=False),
    "continuum": lambda url: changed_by_sqlalchemy(url, continuum=True),
    "django": lambda url: changed_by_django(url, auditlog=False),
    "auditlog": lambda url: changed_by_django(url, auditlog=True),
    "workhorse": lambda url: changed_by_workhorse(url, audited=False),
    "workhorse, audited": lambda url: changed_by_workhorse(url, audited=True),
}


async def main() -> None:
    """Be the contestant that the first argument names."""
    await CONTESTANTS[sys.argv[1]](os.environ["HISTORY_DATABASE_URL"])


if __name__ == "__main__":
    asyncio.run(main())
