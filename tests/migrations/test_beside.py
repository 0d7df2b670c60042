"""Beside Alembic and Django's own migrations: each keeps its own books, and sees nothing of the other's."""

import asyncio
import subprocess
import sys
import textwrap

import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict

from tests.migrations.kit import ask
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.state.postgres.migrate import apply_migrations

SHOP = Migrations.inline("shop", "CREATE TABLE orders (id int PRIMARY KEY)")

PROJECT = """
    import sys
    import django
    from django.conf import settings
    from django.core.management import call_command

    database = {database!r}
    settings.configure(
        DATABASES={{"default": {{
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database["dbname"], "USER": database["user"], "HOST": database["host"], "PORT": database["port"],
        }}}},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    )
    django.setup()
    call_command("migrate", verbosity=1)
    call_command("migrate", check_unapplied=True)
"""


def django_migrate(url: str) -> str:
    program = textwrap.dedent(PROJECT.format(database=conninfo_to_dict(url)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_django_migrates_before_and_after_ours_and_each_finds_its_own_books(database_url: str) -> None:
    assert "Applying auth.0001_initial... OK" in django_migrate(database_url)
    assert len(asyncio.run(apply_migrations(database_url, [WORKHORSE, SHOP]))) == len(WORKHORSE.load()) + 1
    assert "No migrations to apply" in django_migrate(database_url)
    assert asyncio.run(apply_migrations(database_url, [WORKHORSE, SHOP])) == []
    assert ask(database_url, "SELECT count(*) FROM django_migrations WHERE app = 'workhorse'") == [(0,)]
    assert ask(database_url, "SELECT DISTINCT set_name FROM workhorse.migrations ORDER BY 1") == [
        ("shop",),
        ("workhorse",),
    ]


def test_what_autogenerate_reads_of_a_database_has_none_of_our_tables(database_url: str) -> None:
    asyncio.run(apply_migrations(database_url, [WORKHORSE, SHOP]))
    engine = sqlalchemy.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        # Alembic compares the tables of the default schema, unless `include_schemas` is set.
        assert sqlalchemy.inspect(engine).get_table_names() == ["orders"]
    finally:
        engine.dispose()
