"""What is read from FHIR bundles, and what is written."""

import json
from copy import deepcopy
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.records.fhir import BadBundle, ObservationRow, PatientRow, everything, read_bundle

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [
        {"system": "urn:insurance", "value": "I-9"},
        {
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
            "value": "M-1",
        },
    ],
    "name": [
        {"use": "maiden", "family": "Windsor"},
        {"use": "official", "family": "Chalmers", "given": ["Peter", "J"]},
    ],
    "telecom": [{"system": "email", "value": "p@example.org"}, {"system": "phone", "value": "(03) 5555 6473"}],
    "gender": "male",
    "birthDate": "1974-12-25",
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "identifier": [{"value": "o-1"}],
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}]},
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "2026-03-28T10:00:00+01:00",
    "valueQuantity": {"value": 84.1, "unit": "kg"},
}


def bundle(*resources: dict[str, Any], **more: Any) -> bytes:
    entry = [{"fullUrl": f"urn:uuid:{n}", "resource": resource} for n, resource in enumerate(resources)]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entry, **more}).encode()


def changed(resource: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {name: value for name, value in {**deepcopy(resource), **more}.items() if value is not None}


def issues(body: bytes) -> str:
    with pytest.raises(BadBundle) as refusal:
        read_bundle(body)
    return " | ".join(f"{issue.where}: {issue.what}" for issue in refusal.value.issues)


def test_a_patient_and_an_observation_are_read_as_the_clinic_keeps_them() -> None:
    found = read_bundle(bundle(PATIENT, OBSERVATION, {"resourceType": "Device"}))
    assert found.patients == [
        PatientRow(
            number="M-1",
            family_name="Chalmers",
            given_names="Peter J",
            birth_date=date(1974, 12, 25),
            sex="male",
            phone="(03) 5555 6473",
        )
    ]
    (observation,) = found.observations
    assert observation.patient == "M-1"
    assert observation.value == Decimal("84.1")
    assert observation.observed_at == datetime(2026, 3, 28, 9, tzinfo=UTC)
    assert found.others == 1


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ([changed(PATIENT, identifier=None)], "Bundle.entry[0].resource: identifier: the patient has none"),
        ([changed(PATIENT, name=[{"family": "x" * 201}])], "name.family: has 201 characters"),
        ([changed(PATIENT, name=[{"family": "a\0b"}])], "NUL is none"),
        ([changed(PATIENT, birthDate="25.12.1974")], "birthDate"),
        (
            [PATIENT, changed(OBSERVATION, subject={"reference": "urn:uuid:7"})],
            "entry[1].resource: subject: no patient",
        ),
        ([PATIENT, changed(OBSERVATION, subject=None)], "subject: no patient ''"),
        ([PATIENT, changed(OBSERVATION, status=None)], "status"),
        ([PATIENT, changed(OBSERVATION, valueQuantity={"value": 1e15})], "more than 14 digits"),
        ([PATIENT, changed(OBSERVATION, valueQuantity={"value": 1e-7})], "6 behind it"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(resources: list[dict[str, Any]], told: str) -> None:
    assert told in issues(bundle(*resources))


def test_all_that_is_wrong_is_told_at_once() -> None:
    bad = changed(PATIENT, identifier=None)
    assert issues(bundle(bad, PATIENT, bad)).count("the patient has none") == 2


def test_a_bundle_of_too_many_entries_is_refused_before_they_are_read() -> None:
    assert "1001 entries" in issues(bundle(*[{"resourceType": "Device"}] * 1001))


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"\xff\xfe", b"{", b"[" * 100_000, b'{"resourceType":"Patient"}']
)
def test_what_is_no_bundle_is_refused(body: bytes) -> None:
    assert issues(body).startswith("Bundle")


def test_an_issue_does_not_repeat_what_stood_there() -> None:
    assert "25.12.1974" not in issues(bundle(changed(PATIENT, birthDate="25.12.1974")))


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=30)


@given(
    number=texts,
    family=texts,
    value=st.decimals(min_value=-(10**13), max_value=10**13, places=6, allow_nan=False),
    moment=st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)),  # noqa: DTZ001 - Hypothesis adds it
)
def test_what_goes_out_comes_in_again(number: str, family: str, value: Decimal, moment: datetime) -> None:
    patient = PatientRow(
        number=number, family_name=family, given_names="Ann", birth_date=date(2000, 2, 29), sex="female", phone="1"
    )
    observation = ObservationRow(
        patient=number,
        source="s",
        code="c",
        name="n",
        value=value,
        unit="kg",
        text="",
        status="final",
        observed_at=moment.replace(microsecond=0),
    )
    found = read_bundle(everything(patient, [observation]))
    assert found.patients == [patient]
    assert found.observations == [observation]
