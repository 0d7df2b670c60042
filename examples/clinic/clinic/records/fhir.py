"""HL7 FHIR R4 bundles read into the clinic's rows, and written from them (http://hl7.org/fhir/R4/bundle.html).

The resources are parsed and checked by `fhir.resources`. R4B, which it has, differs from R4 in neither Patient nor
Observation. What the clinic has no place for (a patient's photo, say) is left out, and counted in the answer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

import msgspec
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.patient import Patient
from pydantic import ValidationError

__all__ = ["BadBundle", "Entries", "ObservationRow", "PatientRow", "everything", "operation_outcome", "read_bundle"]

MOST_ENTRIES: Final = 1_000
MOST_ISSUES: Final = 50
MEDICAL_RECORD: Final = "MR"
SEXES: Final = frozenset({"male", "female", "other", "unknown"})
ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
DIGITS: Final = 14  # before the point: what the column holds
PLACES: Final = 6


@dataclass(frozen=True, slots=True)
class Issue:
    """Something wrong, and where (a FHIRPath of a bundle)."""

    where: str
    what: str


class BadBundle(Exception):
    """The bundle cannot be taken; nothing of it was."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__(f"{len(issues)} issues, the first: {issues[0].where}: {issues[0].what}")
        self.issues = issues


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRow:
    """A patient, as the clinic keeps them."""

    number: str
    family_name: str
    given_names: str
    birth_date: date | None
    sex: str
    phone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationRow:
    """An observation, and the number of the patient it is of."""

    patient: str
    source: str
    code: str
    name: str
    value: Decimal | None
    unit: str
    text: str
    status: str
    observed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Entries:
    """What a bundle holds."""

    patients: list[PatientRow] = field(default_factory=list)
    observations: list[ObservationRow] = field(default_factory=list)
    others: int = 0
    """Resources of kinds that the clinic does not keep."""


def read_bundle(body: bytes) -> Entries:
    """Read the patients and observations of a bundle.

    Raises:
        BadBundle: it is malformed, an entry is, or an observation is of nobody; with every issue found, up to fifty.
    """
    try:
        # Numbers stay what they are: a double would make 0.1 of a dose into something else.
        bundle = Bundle.model_validate(json.loads(body, parse_float=Decimal))
    except (ValueError, RecursionError) as error:
        raise BadBundle(list(_issues_of(error))) from None
    entries: list[Any] = bundle.entry or []
    if len(entries) > MOST_ENTRIES:
        raise BadBundle([Issue("Bundle.entry", f"{len(entries)} entries; at most {MOST_ENTRIES} are taken at once")])
    found, issues, numbers = Entries(), list[Issue](), dict[str, str]()
    for index, entry in enumerate(entries):
        if isinstance(entry.resource, Patient):
            try:
                row = patient_row(entry.resource)
            except ValueError as error:
                issues.append(Issue(f"Bundle.entry[{index}].resource", str(error)))
                continue
            found.patients.append(row)
            for name in (entry.fullUrl, f"Patient/{entry.resource.id}" if entry.resource.id else None):
                if name:
                    numbers[str(name)] = row.number
    others = 0
    for index, entry in enumerate(entries):
        if isinstance(entry.resource, Observation):
            try:
                found.observations.append(observation_row(entry.resource, str(entry.fullUrl or ""), numbers))
            except ValueError as error:
                issues.append(Issue(f"Bundle.entry[{index}].resource", str(error)))
        elif not isinstance(entry.resource, Patient):
            others += 1
    if issues:
        raise BadBundle(issues[:MOST_ISSUES])
    return Entries(found.patients, found.observations, others)


def patient_row(patient: Patient) -> PatientRow:
    """What the clinic keeps of a patient.

    Raises:
        ValueError: there is no identifier, or a text is longer than its column.
    """
    names: list[Any] = patient.name or []
    official = next((name for name in names if name.use == "official"), names[0] if names else None)
    phone = next((one.value for one in patient.telecom or [] if one.system == "phone" and one.value), "")
    return PatientRow(
        number=_bounded(_number_of(patient), 64, "identifier"),
        family_name=_bounded((official.family if official else "") or "", 200, "name.family"),
        given_names=_bounded(" ".join((official.given if official else None) or []), 200, "name.given"),
        birth_date=patient.birthDate if isinstance(patient.birthDate, date) else None,
        sex=patient.gender if patient.gender in SEXES else "unknown",
        phone=_bounded(phone, 40, "telecom"),
    )


def observation_row(observation: Observation, full_url: str, numbers: Mapping[str, str]) -> ObservationRow:
    """What the clinic keeps of an observation.

    Args:
        observation: the resource.
        full_url: the entry's, which tells it apart where it has no identifier.
        numbers: the numbers of the bundle's patients, by how they are referred to.

    Raises:
        ValueError: it is of nobody, or cannot be told apart from others, or a value does not fit.
    """
    reference = str(observation.subject.reference) if observation.subject and observation.subject.reference else ""
    patient = numbers.get(reference) or reference.removeprefix("Patient/")
    if not patient or patient.startswith("urn:"):
        raise ValueError(f"subject: no patient {reference!r} in the bundle")
    identifiers: list[Any] = observation.identifier or []
    source = identifiers[0].value if identifiers else observation.id or full_url
    if not source:
        raise ValueError("identifier, id and fullUrl are missing, so it could be taken twice")
    codings: list[Any] = observation.code.coding or []
    coding = codings[0] if codings else None
    quantity: Any = observation.valueQuantity
    value = Decimal(str(quantity.value)) if quantity is not None and quantity.value is not None else None
    if value is not None and (not value.is_finite() or abs(value) >= 10**DIGITS or round(value, PLACES) != value):
        raise ValueError(f"valueQuantity: {value} has more than {DIGITS} digits before the point or {PLACES} behind it")
    effective: Any = observation.effectiveDateTime
    return ObservationRow(
        patient=_bounded(patient, 64, "subject"),
        source=_bounded(str(source), 200, "identifier"),
        code=_bounded((coding.code if coding else "") or "", 64, "code"),
        name=_bounded((coding.display if coding else None) or observation.code.text or "", 200, "code.text"),
        value=value,
        unit=_bounded((quantity.unit if quantity is not None else None) or "", 40, "valueQuantity.unit"),
        text=_bounded(_text_of(observation), 400, "value"),
        status=str(observation.status),
        observed_at=_moment(effective),
    )


def everything(patient: PatientRow, observations: Iterable[ObservationRow]) -> bytes:
    """A searchset bundle of a patient and what was observed (the operation `$everything`)."""
    # A number may have letters that an id of FHIR may not, so the entry is referred to by a name made from it.
    url = uuid5(NAMESPACE_OID, patient.number).urn
    name = {"use": "official", "family": patient.family_name or None, "given": patient.given_names.split() or None}
    resources: list[dict[str, Any]] = [
        {
            "resourceType": "Patient",
            "identifier": [{"type": {"coding": [{"code": MEDICAL_RECORD}]}, "value": patient.number}],
            "name": [{key: value for key, value in name.items() if value}],
            "gender": patient.sex,
            **({"birthDate": patient.birth_date.isoformat()} if patient.birth_date else {}),
            **({"telecom": [{"system": "phone", "value": patient.phone}]} if patient.phone else {}),
        }
    ]
    resources += [_resource_of(row, url) for row in observations]
    document = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(resources),
        "entry": [
            {"fullUrl": url, "resource": resource} if index == 0 else {"resource": resource}
            for index, resource in enumerate(resources)
        ],
    }
    Bundle.model_validate(document)
    # What was checked is written from our own, since the library makes doubles of decimals, and FHIR keeps every digit.
    return ENCODER.encode(document)


def _resource_of(row: ObservationRow, patient: str) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "identifier": [{"value": row.source}],
        "status": row.status,
        "code": _without_none(
            coding=[_without_none(code=row.code, display=row.name or None)] if row.code else None, text=row.name or None
        ),
        "subject": {"reference": patient},
    }
    if row.observed_at is not None:
        resource["effectiveDateTime"] = row.observed_at.isoformat()
    if row.value is not None:
        resource["valueQuantity"] = _without_none(value=row.value, unit=row.unit or None)
    elif row.text:
        resource["valueString"] = row.text
    return resource


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def operation_outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    """The resource in which FHIR says what is wrong (http://hl7.org/fhir/R4/operationoutcome.html)."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {"severity": "error", "code": "invalid", "expression": [issue.where], "diagnostics": issue.what}
            for issue in issues
        ],
    }


def _number_of(patient: Patient) -> str:
    """The medical record number, or else the first identifier.

    Raises:
        ValueError: there is none.
    """
    identifiers: list[Any] = [one for one in patient.identifier or [] if one.value]
    for one in identifiers:
        codings: list[Any] = (one.type.coding if one.type else None) or []
        if any(coding.code == MEDICAL_RECORD for coding in codings):
            return str(one.value)
    if not identifiers:
        raise ValueError("identifier: the patient has none")
    return str(identifiers[0].value)


def _text_of(observation: Observation) -> str:
    if observation.valueString is not None:
        return str(observation.valueString)
    concept: Any = observation.valueCodeableConcept
    return str(concept.text or "") if concept is not None else ""


def _moment(given: date | datetime | None) -> datetime | None:
    """When it was observed. FHIR allows for a date alone; it then begins with that day, in UTC."""
    if given is None or isinstance(given, datetime):
        return given
    return datetime.combine(given, time(), UTC)


def _bounded(text: str, most: int, name: str) -> str:
    """The text, if it fits its column and Postgres can hold it.

    Raises:
        ValueError: it does not.
    """
    if len(text) > most or "\0" in text:
        raise ValueError(f"{name}: has {len(text)} characters, and {most} are the most; NUL is none")
    return text


def _issues_of(error: Exception) -> Iterable[Issue]:
    """Where a bundle is malformed. Without what stands there: an answer with it might end in a log."""
    if isinstance(error, ValidationError):
        for one in error.errors(include_input=False, include_url=False)[:MOST_ISSUES]:
            yield Issue(".".join(("Bundle", *map(str, one["loc"]))), one["msg"])
    else:
        yield Issue("Bundle", "this is no JSON of a bundle")
