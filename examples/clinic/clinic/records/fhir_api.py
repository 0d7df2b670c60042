"""FHIR over HTTP: a bundle comes in whole or not at all, and a patient's data go out as one."""

from dataclasses import asdict
from typing import Any, Final

from django.http import HttpResponse
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clinic.records import models
from clinic.records.access import open_record, refuse, tell
from clinic.records.fhir import BadBundle, Issue, ObservationRow, PatientRow, everything, operation_outcome, read_bundle

__all__ = ["Everything", "Import", "RawBundle"]

FHIR: Final = "application/fhir+json"


class RawBundle(BaseParser):
    """Leaves the body to the reader of bundles."""

    media_type = FHIR

    def parse(self, stream: Any, *_: Any, **__: Any) -> bytes:
        """The body as it came; the guard has bounded it."""
        return bytes(stream.read())


class RawJson(RawBundle):
    """The same for those who send it as plain JSON."""

    media_type = "application/json"


class Import(APIView):
    """Takes a bundle."""

    parser_classes = (RawBundle, RawJson)

    def post(self, request: Request) -> Response:
        """Store its patients and observations: those known already, by their numbers, are brought up to date."""
        if not request.user.has_perms(["records.add_patient", "records.add_observation"]):
            refuse(request.user, "", "may not import")
        try:
            # Of an empty body the framework makes an empty form, without asking the parser.
            entries = read_bundle(request.data if isinstance(request.data, bytes) else b"")
        except BadBundle as bad:
            return Response(operation_outcome(bad.issues), status=422, content_type=FHIR)
        for row in sorted(
            entries.patients, key=lambda row: row.number
        ):  # in one order, so that two imports do not deadlock
            models.Patient.objects.update_or_create(number=row.number, defaults=asdict(row))
        numbers = {row.patient for row in entries.observations}
        known = dict(models.Patient.objects.filter(number__in=numbers).values_list("number", "pk"))
        if numbers - known.keys():
            missing = [
                Issue("Observation.subject", f"no patient {number!r}") for number in sorted(numbers - known.keys())
            ]
            return Response(operation_outcome(missing[:50]), status=422, content_type=FHIR)
        models.Observation.objects.bulk_create(
            [_observation(row, known[row.patient]) for row in entries.observations],
            update_conflicts=True,
            unique_fields=["patient", "source"],
            update_fields=["code", "name", "value", "unit", "text", "status", "observed_at"],
        )
        counts = {
            "patients": len(entries.patients),
            "observations": len(entries.observations),
            "left_out": entries.others,
        }
        tell("bundle.imported", request.user, "", counts)
        return Response(counts, status=201)


class Everything(APIView):
    """A patient's data."""

    def get(self, request: Request, number: str) -> HttpResponse:
        """All that FHIR knows a place for, for whoever may open the record."""
        patient = open_record(request.user, number, "records.view_observation")
        bundle = everything(_patient_row(patient), map(_observation_row, patient.observations.all()[:1_000]))
        return HttpResponse(bundle, content_type=FHIR)


def _observation(row: ObservationRow, patient: int) -> models.Observation:
    values = asdict(row)
    values["patient_id"] = patient
    del values["patient"]
    return models.Observation(**values)


def _patient_row(patient: models.Patient) -> PatientRow:
    return PatientRow(
        number=patient.number,
        family_name=patient.family_name,
        given_names=patient.given_names,
        birth_date=patient.birth_date,
        sex=patient.sex,
        phone=patient.phone or "",  # of who was erased there is none
    )


def _observation_row(observation: models.Observation) -> ObservationRow:
    return ObservationRow(
        patient=observation.patient.number,
        source=observation.source,
        code=observation.code,
        name=observation.name,
        value=observation.value,
        unit=observation.unit,
        text=observation.text,
        status=observation.status,
        observed_at=observation.observed_at,
    )
