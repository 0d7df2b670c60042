"""What a project sees of Workhorse: checks, settings, commands, migrations."""

import asyncio
from io import StringIO
from typing import Any, cast

import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.integrations.django.conftest import UNITS, Project, database
from tests.integrations.django.serving import EVERYWHERE, post, serve
from workhorse import job
from workhorse.embedded import drop_database, fresh_database
from workhorse.errors import SettingsError
from workhorse.integrations.django import with_orm
from workhorse.integrations.django.conf import database_url, service_settings
from workhorse.testing import service_client

CHECKS = cast("Any", checks)
CALL = cast("Any", call_command)


def found(*, deploy: bool = False) -> dict[str, str]:
    """What Workhorse's checks say, by their ids."""
    said = CHECKS.run_checks(tags=["workhorse"], include_deployment_checks=deploy)
    return {one.id.removeprefix("workhorse."): f"{one.msg} {one.hint or ''}" for one in said}


COMMON = "django.middleware.common.CommonMiddleware"
HOSTS = {"guard": {"allowed_hosts": ["bank.example"]}}


def test_a_project_that_is_set_up_well_has_nothing_said_of_it(project: Project) -> None:
    options = {"pool": True, "options": "-c statement_timeout=30s"}
    project.set_database("default", OPTIONS=options)
    project.configure(WORKHORSE=HOSTS)
    assert found(deploy=True) == {}


@pytest.mark.parametrize(
    ("values", "id_", "says"),
    [
        ({"MIDDLEWARE": []}, "W001", f"MIDDLEWARE = ['{UNITS}', ...]"),
        ({"MIDDLEWARE": ["a.B", UNITS]}, "W002", "comes after a.B in MIDDLEWARE"),
        ({"WORKHORSE": {"guard": {"alowed_hosts": ["x"]}}}, "E004", "did you mean guard.allowed_hosts"),
        ({"WORKHORSE": 1}, "E004", "WORKHORSE is int"),
        ({"MIDDLEWARE": [UNITS, COMMON, UNITS]}, "E005", "Take out all but the first"),
        ({"MIDDLEWARE": [COMMON], "WORKHORSE_UNITS": "every"}, "E006", "WORKHORSE_UNITS is 'every'"),
        ({"WORKHORSE": {"database": {"url": "postgresql:///other"}}}, "E004", "leads to the database 'other'"),
        ({"WORKHORSE_UNITS": "all"}, "E001", "one of unsafe, every, asked"),
        ({"WORKHORSE_DATABASE": "ledger"}, "E002", "Change WORKHORSE_DATABASE"),
    ],
)
def test_a_fault_names_the_line_to_change(project: Project, values: dict[str, Any], id_: str, says: str) -> None:
    project.configure(**values)
    faults = found()
    assert list(faults) == [id_]
    assert says in faults[id_]
    if id_.startswith("E"):  # a service does not start with it, and says the same
        with pytest.raises(SettingsError) as refused:
            project.service().controls()
        assert says in str(refused.value)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ({}, {"W004", "W005"}),
        ({"CONN_MAX_AGE": 60}, {"W003", "W005"}),
        ({"AUTOCOMMIT": False, "OPTIONS": {"pool": True}}, {"E003", "W005"}),
    ],
)
def test_a_deployment_is_told_what_to_change(project: Project, values: dict[str, Any], ids: set[str]) -> None:
    project.set_database("default", **values)
    project.configure(WORKHORSE=HOSTS)
    assert set(found(deploy=True)) == ids


def test_settings_are_those_of_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.configure(WORKHORSE={"idempotency": {"keep_seconds": 61}})
    settings = service_settings()
    assert settings.idempotency.keep_seconds == 61
    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == database_url("default")
    name = database_url("default").partition("?")[0].rpartition("/")[2]
    monkeypatch.setenv("DATABASE_URL", f"postgresql://pooler:6432/{name}")
    named = service_settings().database.url
    assert named is not None
    assert named.get_secret_value() == f"postgresql://pooler:6432/{name}"
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/bank")
    with pytest.raises(SettingsError, match="leads to the database 'bank', and units run on"):
        service_settings()
    monkeypatch.delenv("DATABASE_URL")
    project.configure(WORKHORSE={"log": {"levle": "info"}})
    with pytest.raises(SettingsError, match=r"log\.levle: there is no such setting; did you mean log\.level"):
        service_settings()


@pytest.mark.parametrize(
    ("allowed", "guard", "hosts"),
    [
        (["bank.example", ".shop.example"], {}, ("bank.example", "shop.example", "*.shop.example")),
        (["bank.example"], {"allowed_hosts": ["other.example"]}, ("other.example",)),
        (["*"], {}, ()),
        (["bank.example", "*"], {}, ()),
        ([], {}, ()),
    ],
    ids=["named", "named for the guard", "any", "any beside one", "none"],
)
def test_hosts_are_those_that_django_allows(
    project: Project, allowed: list[str], guard: dict[str, Any], hosts: tuple[str, ...]
) -> None:
    project.configure(ALLOWED_HOSTS=allowed, WORKHORSE={"guard": guard})
    assert service_settings().guard.allowed_hosts == hosts


def test_a_url_is_made_of_what_databases_say(project: Project) -> None:
    project.set_database(
        "default",
        NAME="a bank",
        USER="o'hara",
        PASSWORD="p@ss/word",
        HOST="db.example",
        PORT=5433,
        OPTIONS={"pool": True, "sslmode": "verify-full", "options": "-c statement_timeout=1s"},
    )
    assert database_url("default") == (
        "postgresql://o%27hara:p%40ss%2Fword@db.example:5433/a%20bank"
        "?options=-c%20statement_timeout%3D1s&sslmode=verify-full"
    )


def test_migrate_makes_the_tables_of_workhorse(project: Project, servers: Any) -> None:
    url = fresh_database(servers.database_url)
    project.configure(DATABASES={"default": database(url), "other": database(project.other_url)})
    CALL("migrate", verbosity=0)
    CALL("migrate", verbosity=0)
    CALL("makemigrations", check=True, dry_run=True, verbosity=0)
    project.url = url
    assert project.sql("SELECT count(*) > 7 FROM workhorse.migrations") == [(True,)]
    assert project.sql("SELECT name FROM django_migrations WHERE app = 'workhorse'") == [("0001_workhorse",)]
    drop_database(url)


def test_commands_are_verbs_of_the_command_line(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match="name the service: in WORKHORSE_SERVICE"):
        CALL("workhorse_check")
    project.configure(WORKHORSE_SERVICE="tests.integrations.django.project.asgi:service")
    CALL("workhorse_check", stdout=StringIO())
    assert "POST /add" in capsys.readouterr().out
    CALL("workhorse_jobs", "list")
    capsys.readouterr()
    with pytest.raises(CommandError, match="workhorse jobs failed"):
        CALL("workhorse_jobs", "retry", "00000000-0000-0000-0000-000000000000")


def test_jobs_commit_what_they_do_on_the_orm_with_their_end(project: Project) -> None:
    from tests.integrations.django.project.models import Note
    from workhorse import sync_unit, unit

    @job(name="tell")
    @with_orm
    def write(text: str) -> None:
        Note.objects.create(text=f"job {text}")
        sync_unit().emit("note.told", subject="1")
        if text == "fails":
            raise RuntimeError

    @job
    async def write_async(text: str) -> None:
        await unit()
        await Note.objects.acreate(text=f"async {text}")
        if text == "fails":
            raise RuntimeError

    async def main() -> None:
        project.configure(WORKHORSE={"log": {"access": False}, "jobs": {"in_process": "on"}})
        service = project.service(*EVERYWHERE, jobs=[write, write_async])
        async with service_client(service) as client:
            for text in ("a", "fails"):
                await post("add", text)(client)
            database_ = service.database_of(service.rooms)
            for text in ("b", "fails"):
                await write_async.enqueue_alone(database_, text)
            for _ in range(200):
                ended = "SELECT count(*) FROM workhorse.jobs WHERE state IN ('delayed', 'dead')"
                if project.sql(ended) == [(2,)] and len(project.notes()) == 4:
                    break
                await asyncio.sleep(0.05)

    asyncio.run(main())
    assert sorted(project.notes()) == ["a", "async b", "fails", "job a"]
    assert project.events().count("note.told") == 1


def test_a_job_that_is_called_is_a_plain_function(project: Project) -> None:
    @with_orm
    def double(number: int) -> int:
        return 2 * number

    assert double(2) == 4


def test_the_middleware_is_not_needed_for_units_that_are_asked_for(project: Project) -> None:
    project.configure(MIDDLEWARE=[])
    assert serve(project, post("own-block", key="k")).status_code == 201
    assert project.events() == ["note.added"]
