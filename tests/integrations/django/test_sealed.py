"""Sealed fields of Django's models: text for the app, and ciphertext for whoever has the database."""

import asyncio
import contextvars
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.db.migrations.writer import MigrationWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integrations.django.conftest import Project
from tests.units.databases import open_database
from workhorse.contracts import Query
from workhorse.errors import SettingsError
from workhorse.integrations.django import DjangoDatabase
from workhorse.integrations.django.fields import BlindIndexField, SealedTextField
from workhorse.privacy import HEALTH, PERSONAL, CannotOpen, DataMap, Delete, Erased, Keep, Place, Privacy
from workhorse.privacy.columns import CannotSeal, Unopened
from workhorse.units import Unit

CONNECTION, ATOMIC = cast("Any", connection), cast("Any", transaction.atomic)


@pytest.fixture
def clinic(project: Project) -> Iterator[Any]:
    """The models of the project, whose keys nobody remembers."""
    from tests.integrations.django.project import models as found

    forget()
    yield found
    CONNECTION.close()


def forget() -> Any:
    from tests.integrations.django.project.privacy import KEYS

    KEYS._kept.clear()
    return KEYS


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements of the block."""
    seen: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001 - Django's signature
        seen.append(sql)
        return execute(sql, params, many, context)

    with CONNECTION.execute_wrapper(note):
        yield seen


def erase(project: Project, number: str) -> None:
    async def main() -> None:
        async with open_database("pool", project.url) as database, Unit(database) as work:
            await forget().erase(work, f"patient/{number}", reason="asked for")

    asyncio.run(main())


def admit(clinic: Any, *numbers: str) -> list[Any]:
    rows = [clinic.Patient(number=number, phone=f"555-{number}", remark=f"of {number}") for number in numbers]
    clinic.Patient.objects.bulk_create(rows)
    forget()
    return rows


def test_the_app_has_text_and_the_database_has_none(project: Project, clinic: Any) -> None:
    made = clinic.Patient.objects.create(number="1", phone="555-1", remark="of 1")
    assert (made.phone, made.remark, type(made.phone)) == ("555-1", "of 1", str)
    (row,) = project.sql("SELECT phone, remark, phone_index FROM project_patient")
    assert all(b"555" not in value and b"of" not in value for value in row)
    forget()
    for manager in (clinic.Patient.objects, clinic.Patient.plain):
        one = manager.get()
        assert (one.phone, one.remark, type(one.phone)) == ("555-1", "of 1", str)
    # What the app's own calls open is the same.

    async def main() -> str:
        async with open_database("pool", project.url) as database, Unit(database) as work:
            cipher = await forget().cipher(work, "patient/1")
        return str(cipher.open("project_patient.phone", bytes(row[0])))

    assert asyncio.run(main()) == "555-1"


@pytest.mark.parametrize("manager", ["objects", "plain"])
def test_the_keys_of_all_rows_are_asked_for_at_once(clinic: Any, manager: str) -> None:
    with statements() as seen:
        admit(clinic, *map(str, range(60)))
    assert sum("subject_keys" in one for one in seen) == 2, "one to look, one to make"
    with statements() as seen:
        found = {row.number: row.phone for row in getattr(clinic.Patient, manager).all()}
    assert found == {str(number): f"555-{number}" for number in range(60)}
    assert len(seen) == 2


def test_however_a_row_is_loaded_it_is_opened(clinic: Any) -> None:
    admit(clinic, "1", "2")
    for number in ("1", "2"):
        clinic.Visit.objects.create(patient_id=number, why=f"flu of {number}")
    forget()
    with statements() as seen:
        visits = clinic.Visit.objects.select_related("patient").order_by("id")
        assert [(one.why, one.patient.phone) for one in visits] == [("flu of 1", "555-1"), ("flu of 2", "555-2")]
    assert len(seen) == 2
    forget()
    rows = clinic.Patient.objects.prefetch_related("visits").order_by("number")
    assert [[visit.why for visit in row.visits.all()] for row in rows] == [["flu of 1"], ["flu of 2"]]
    forget()
    one = clinic.Patient.objects.defer("phone").get(number="1")
    assert ("phone" in one.__dict__, one.phone) == (False, "555-1")
    one.refresh_from_db()
    assert one.phone == "555-1"
    forget()
    assert sorted(row.phone for row in clinic.Patient.objects.iterator(chunk_size=1)) == ["555-1", "555-2"]
    assert next(iter(clinic.Patient.objects.raw("SELECT * FROM project_patient ORDER BY 1"))).phone == "555-1"
    assert pickle.loads(pickle.dumps(one)).phone == "555-1"  # noqa: S301 - its own
    unread = pickle.loads(pickle.dumps(clinic.Patient.plain.get(number="2")))  # noqa: S301 - as above
    assert unread.phone == "555-2"
    (value,) = clinic.Patient.objects.values_list("phone", flat=True)[:1]
    assert (type(value), repr(value)) == (Unopened, "<sealed>")


def test_in_async_views_rows_of_the_manager_are_open_already(clinic: Any) -> None:
    admit(clinic, "1", "2")

    async def main() -> None:
        found = [row.phone async for row in clinic.Patient.objects.order_by("number")]
        assert found == ["555-1", "555-2"]
        forget()
        assert (await clinic.Patient.objects.aget(number="2")).phone == "555-2"
        made = await clinic.Patient.objects.acreate(number="3", phone="555-3")
        made.phone = "555-4"
        await made.asave()
        forget()
        assert (await clinic.Patient.objects.aget(number="3")).phone == "555-4"

    cast("Any", async_to_sync(main))()


def test_what_is_changed_is_sealed_anew_and_what_is_not_stays_as_it_is(project: Project, clinic: Any) -> None:
    def stored() -> Any:
        return project.sql("SELECT phone, remark, phone_index FROM project_patient")[0]

    admit(clinic, "1")
    before = stored()
    one = clinic.Patient.objects.get()
    one.name = "Ada"
    one.save()
    clinic.Patient.plain.get().save()  # nobody has read it
    assert stored() == before
    one.phone = "555-8"
    one.save()
    phone, remark, index = stored()
    assert (phone != before[0], remark == before[1], index != before[2]) == (True, True, True)
    unread = clinic.Patient.plain.get()
    unread.remark = None
    unread.save()
    assert stored() == (phone, None, index)
    forget()
    assert clinic.Patient.objects.get().phone == "555-8"


def test_many_are_updated_at_once_with_their_indexes(clinic: Any) -> None:
    rows = admit(clinic, "1", "2", "3")
    for row in rows:
        row.phone = f"777-{row.number}"
    with statements() as seen:
        clinic.Patient.objects.bulk_update(rows[:2], ["phone"])
    assert sum("subject_keys" in one for one in seen) == 1
    assert [row.phone for row in rows] == ["777-1", "777-2", "777-3"]
    forget()
    assert [row.phone for row in clinic.Patient.objects.order_by("number")] == ["777-1", "777-2", "555-3"]
    assert clinic.Patient.objects.get(phone_index="777-2").number == "2"
    clinic.Patient.objects.bulk_update(rows, ["name"])


def test_a_key_that_the_database_gives_is_drawn_before(project: Project, clinic: Any) -> None:
    one = clinic.Odd.objects.create(said="a")
    many = clinic.Odd.objects.bulk_create([clinic.Odd(said="b"), clinic.Odd(said="c"), clinic.Odd()])
    assert len({one.pk, *(row.pk for row in many)}) == 4
    forget()
    assert {row.pk: row.said for row in clinic.Odd.objects.all()} == {row.pk: row.said for row in [one, *many]}
    assert f"odd/{one.pk}" in {subject for (subject,) in project.sql("SELECT subject FROM workhorse.subject_keys")}
    with pytest.raises(CannotSeal, match="no 'patient_id'"):
        clinic.Visit.objects.create(why="nobody's")


def test_a_row_that_becomes_another_persons_is_sealed_under_their_key(project: Project, clinic: Any) -> None:
    admit(clinic, "1", "2", "3")
    visit = clinic.Visit.objects.create(patient_id="1", why="flu")
    visit = clinic.Visit.objects.get()  # unread
    visit.patient_id = "2"
    visit.save()
    erase(project, "1")
    assert clinic.Visit.objects.get().why == "flu"
    project.sql("UPDATE project_visit SET patient_id = '1'")
    assert clinic.Visit.objects.get().why is None
    project.sql("UPDATE project_visit SET patient_id = '3'")  # by hand, past the app
    with pytest.raises(CannotOpen):
        _ = clinic.Visit.objects.get().why


def test_of_who_was_erased_nothing_is_read_and_nothing_written(project: Project, clinic: Any) -> None:
    admit(clinic, "1", "2")
    before = project.sql("SELECT phone FROM project_patient WHERE number = '1'")
    erase(project, "1")
    assert [row.phone for row in clinic.Patient.objects.order_by("number")] == [None, "555-2"]
    one = clinic.Patient.objects.get(number="1")
    one.name = "known by name"
    one.save()
    assert project.sql("SELECT phone FROM project_patient WHERE number = '1'") == before
    one.phone = "555-7"
    with pytest.raises(Erased):
        one.save()


def test_equal_texts_are_found_by_the_blind_index(clinic: Any) -> None:
    admit(clinic, "1", "2")
    objects = clinic.Patient.objects
    assert objects.get(phone_index=" 555-2 ").number == "2"
    assert objects.filter(phone_index__in=["555-1", "555-2", "555-3"]).count() == 2
    one = objects.get(number="2")
    one.phone = "555-7"
    with pytest.raises(CannotSeal, match="blind index phone_index"):
        one.save(update_fields=["phone"])
    one.save(update_fields=["phone", "phone_index"])
    assert (objects.filter(phone_index="555-2").count(), objects.get(phone_index="555-7").number) == (0, "2")


def test_what_would_write_or_compare_text_as_it_is_is_refused_without_telling_it(project: Project, clinic: Any) -> None:
    admit(clinic, "1")
    secret, objects = "0151-SECRET", clinic.Patient.objects
    one = objects.get()
    one.phone = secret
    refused: list[Callable[[], Any]] = [
        lambda: objects.update(phone=secret),
        lambda: objects.filter(phone=secret).count(),
        lambda: objects.filter(phone__icontains=secret).count(),
        lambda: objects.filter(phone_index__contains=secret).count(),
        lambda: clinic.Patient.plain.bulk_update([one], ["phone"]),
        lambda: clinic.Patient(number="5", phone=5).save(),
    ]
    for step in refused:
        with pytest.raises(CannotSeal) as failed:
            step()
        assert secret not in str(failed.value)
    assert objects.filter(remark__isnull=True).count() == 0
    with pytest.raises(IntegrityError) as doubled, ATOMIC():
        clinic.Patient(number="1", phone=secret).save(force_insert=True)
    assert secret not in str(doubled.value)
    assert objects.get().phone == "555-1"


def test_a_block_that_is_undone_leaves_no_key_that_others_would_seal_under(clinic: Any) -> None:
    with suppress(ZeroDivisionError), ATOMIC():
        clinic.Patient.objects.create(number="1", phone="555-1")
        assert clinic.Patient.plain.get().phone == "555-1"
        raise ZeroDivisionError
    clinic.Patient.objects.create(number="1", phone="555-1")
    forget()
    assert clinic.Patient.objects.get().phone == "555-1"


def test_rows_of_another_thread_are_let_be(clinic: Any) -> None:
    """Whose keys this thread may not see yet."""
    admit(clinic, "1")
    loaded, read = threading.Event(), threading.Event()
    found: list[str] = []

    def other() -> None:
        with ATOMIC():
            clinic.Patient.objects.create(number="2", phone="555-2")
            one = clinic.Patient.plain.get(number="2")
            loaded.set()
            assert read.wait(10)
            found.append(one.phone)
        CONNECTION.close()

    first = clinic.Patient.plain.get(number="1")
    thread = threading.Thread(target=contextvars.copy_context().run, args=(other,))
    thread.start()
    assert loaded.wait(10)
    forget()
    assert first.phone == "555-1"
    read.set()
    thread.join(10)
    assert found == ["555-2"]


def test_whatever_the_text_it_comes_back(clinic: Any) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.text(), max_size=5))
    def law(texts: list[str]) -> None:
        clinic.Odd.objects.all().delete()
        clinic.Odd.objects.bulk_create([clinic.Odd(said=text) for text in texts])
        forget()
        assert [row.said for row in clinic.Odd.objects.order_by("pk")] == texts

    law()


def test_exports_erasures_and_the_data_map_know_of_sealed_fields(project: Project, clinic: Any) -> None:
    places = [Place.of(clinic.Patient, erase=Keep("a law")), Place.of(clinic.Visit, erase=Delete())]
    privacy = Privacy(forget(), models=[clinic.Patient, clinic.Visit], places=places)
    admit(clinic, "1", "2")
    clinic.Visit.objects.create(patient_id="1", why="flu")

    async def main() -> None:
        database = DjangoDatabase()
        async with Unit(database, isolation="repeatable read") as work:
            facts = [dict(entry.facts) for entry in (await privacy.draft(work, "patient/1")).entries]
        assert facts[0] == {"number": "1", "name": None, "phone": "555-1", "remark": "of 1"}
        assert facts[1]["reason"] == "flu"
        async with Unit(database) as work:
            receipt = await privacy.erase(work, "patient/1", reason="asked for")
        assert (receipt.deleted, receipt.kept) == ({"project_visit": 1}, {"project_patient": "a law"})
        assert len(await database.run(Query("SELECT 1 FROM project_patient WHERE phone_index IS NULL"))) == 1
        await database.close()

    cast("Any", async_to_sync(main))()
    said = {one.name: one.class_ for one in DataMap([clinic.Patient]).fields}
    assert (said["phone"], said["remark"], said["phone_index"]) == (PERSONAL, HEALTH, PERSONAL)


def test_a_fixture_has_text_and_is_sealed_as_it_is_loaded(project: Project, clinic: Any, tmp_path: Path) -> None:
    admit(clinic, "1")
    fixture = tmp_path / "patients.json"
    fixture.write_text(cast("Any", serializers).serialize("json", clinic.Patient.objects.all()))
    clinic.Patient.objects.all().delete()
    cast("Any", call_command)("loaddata", str(fixture), stdout=StringIO())
    assert b"555" not in project.sql("SELECT phone FROM project_patient")[0][0]
    forget()
    assert clinic.Patient.objects.get(phone_index="555-1").phone == "555-1"


def test_migrations_have_the_fields_and_no_keys(clinic: Any) -> None:
    renamed = SealedTextField("patient/{number}", name="phone", sealed_as="former.phone")
    for field in (renamed, clinic.Patient._meta.get_field("phone"), clinic.Patient._meta.get_field("phone_index")):
        name, path, args, kwargs = field.deconstruct()
        again = type(field)(*args, **kwargs)
        assert again.deconstruct()[1:] == (path, args, kwargs)
        assert field.db_type(CONNECTION) == "bytea"
        text, _ = cast("Any", MigrationWriter).serialize(field)
        assert "0x" not in text
        assert name in ("phone", "phone_index")


def test_checks_name_what_to_change(project: Project, clinic: Any) -> None:
    def said(model: Any) -> set[str]:
        return {one.id.removeprefix("workhorse.") for one in model.check() if one.id.startswith("workhorse.")}

    class Wrong(models.Model):  # type: ignore[misc]
        patient = models.ForeignKey(clinic.Patient, on_delete=models.CASCADE)
        by_relation = SealedTextField("patient/{patient}")
        by_nothing = SealedTextField("patient/{nobody}", unique=True)
        index = BlindIndexField(of="id")

        class Meta:
            app_label = "project"

    try:
        assert said(Wrong) == {"E008", "E009", "E011"}
        assert said(clinic.Patient) == set()
        for name in (None, "nowhere", "nowhere:AT_ALL", "tests.integrations.django.project.privacy:NO_KEYS"):
            project.configure(WORKHORSE_PRIVACY=name)
            assert said(clinic.Patient) == {"E010", "E012"}
            with pytest.raises(SettingsError, match="WORKHORSE_PRIVACY"):
                clinic.Patient.objects.create(number="1", phone="555")
    finally:
        cast("Any", clinic.Patient._meta.apps).all_models["project"].pop("wrong")
        cast("Any", clinic.Patient._meta.apps).clear_cache()
