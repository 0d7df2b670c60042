"""The clinic's REST API, on Django REST framework."""

from datetime import timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.utils import timezone
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clinic.records.access import break_glass, open_record, refuse, tell
from clinic.records.jobs import ask_for_review, confirm_appointment
from clinic.records.models import Appointment, BrokenGlass, Note, Observation, Patient, Prescription

__all__ = [
    "Appointments",
    "BreakGlass",
    "GlassReview",
    "Notes",
    "OpenGlasses",
    "PatientList",
    "PatientRecord",
    "Prescriptions",
]

MOST_PATIENTS: Final = 50
LONGEST_APPOINTMENT: Final = timedelta(hours=8)


class PatientLine(serializers.ModelSerializer):
    """What reception sees of a patient."""

    class Meta:
        model = Patient
        fields = ("number", "family_name", "given_names", "birth_date")


class PatientDetails(serializers.ModelSerializer):
    """Who the patient is, for those who treat them."""

    class Meta:
        model = Patient
        fields = ("number", "family_name", "given_names", "birth_date", "sex", "phone")


class NoteText(serializers.ModelSerializer):
    """A note."""

    class Meta:
        model = Note
        fields = ("id", "author", "text", "written_at", "amends")
        read_only_fields = ("author",)
        extra_kwargs: Final = {"text": {"max_length": 20_000}}


class PrescriptionOrder(serializers.ModelSerializer):
    """A prescription."""

    class Meta:
        model = Prescription
        fields = ("id", "prescriber", "medicine", "dose", "signed_at", "withdrawn_at")
        read_only_fields = ("prescriber", "withdrawn_at")


class ObservationLine(serializers.ModelSerializer):
    """A measurement."""

    class Meta:
        model = Observation
        fields = ("code", "name", "value", "unit", "text", "status", "observed_at")


class Booking(serializers.Serializer):
    """A wish for an appointment."""

    patient = serializers.CharField(max_length=64)
    practitioner = serializers.CharField(max_length=150)
    starts = serializers.DateTimeField()
    minutes = serializers.IntegerField(min_value=5, max_value=int(LONGEST_APPOINTMENT.total_seconds() // 60))


class Reason(serializers.Serializer):
    """Why somebody breaks the glass, or what a review found."""

    reason = serializers.CharField(min_length=10, max_length=1_000)


class AlreadyTaken(APIException):
    """The practitioner is not free then."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "The practitioner has another appointment at that time."


class PatientList(APIView):
    """Finds patients by the beginning of a name, or by their number."""

    def get(self, request: Request) -> Response:
        """At most fifty, and only what reception needs to find the right one."""
        if not request.user.has_perm("records.view_patient"):
            refuse(request.user, "", "has no records.view_patient")
        name = request.query_params.get("name", "").strip()
        if len(name) < 2:
            raise ValidationError({"name": "Two letters of a name, or a number, are the least."})
        found = Patient.objects.filter(Q(family_name__istartswith=name) | Q(number=name))[:MOST_PATIENTS]
        tell("patients.searched", request.user, "", {"found": len(found)})
        return Response(PatientLine(found, many=True).data)


class PatientRecord(APIView):
    """A patient's record."""

    def get(self, request: Request, number: str) -> Response:
        """All of it."""
        patient = open_record(request.user, number, "records.view_note")
        return Response(
            {
                **PatientDetails(patient).data,
                "notes": NoteText(patient.notes.all(), many=True).data,
                "prescriptions": PrescriptionOrder(patient.prescriptions.all(), many=True).data,
                "observations": ObservationLine(patient.observations.all()[:500], many=True).data,
            }
        )


class Notes(APIView):
    """What is written of a patient."""

    def post(self, request: Request, number: str) -> Response:
        """Write a note."""
        patient = open_record(request.user, number, "records.add_note")
        order = NoteText(data=request.data)
        order.is_valid(raise_exception=True)
        amended = order.validated_data.get("amends")
        if amended is not None and amended.patient_id != patient.pk:
            raise ValidationError({"amends": "That note is of another patient."})
        note = order.save(patient=patient, author=request.user)
        tell("note.written", request.user, number, {"note": note.pk})
        return Response(order.data, status=status.HTTP_201_CREATED)


class Prescriptions(APIView):
    """Medicines."""

    def post(self, request: Request, number: str) -> Response:
        """Prescribe one."""
        patient = open_record(request.user, number, "records.add_prescription")
        order = PrescriptionOrder(data=request.data)
        order.is_valid(raise_exception=True)
        prescription = order.save(patient=patient, prescriber=request.user)
        tell("prescription.signed", request.user, number, {"prescription": prescription.pk})
        return Response(order.data, status=status.HTTP_201_CREATED)


class BreakGlass(APIView):
    """Emergency access."""

    def post(self, request: Request, number: str) -> Response:
        """Open a record for an hour, for a reason."""
        order = Reason(data=request.data)
        order.is_valid(raise_exception=True)
        glass = break_glass(request.user, number, order.validated_data["reason"])
        ask_for_review.enqueue_sync(glass.pk)
        return Response({"glass": glass.pk, "until": glass.until}, status=status.HTTP_201_CREATED)


class OpenGlasses(APIView):
    """Emergency accesses that nobody has reviewed."""

    def get(self, request: Request) -> Response:
        """The oldest first."""
        if not request.user.has_perm("records.review_brokenglass"):
            refuse(request.user, "", "has no records.review_brokenglass")
        waiting = BrokenGlass.objects.filter(reviewed_at=None).order_by("opened_at").select_related("patient", "member")
        return Response(
            [
                {
                    "glass": glass.pk,
                    "patient": glass.patient.number,
                    "by": glass.member.get_username(),
                    "reason": glass.reason,
                    "opened_at": glass.opened_at,
                }
                for glass in waiting[:MOST_PATIENTS]
            ]
        )


class GlassReview(APIView):
    """The review of an emergency access."""

    def post(self, request: Request, glass: int) -> Response:
        """Say what the review found."""
        if not request.user.has_perm("records.review_brokenglass"):
            refuse(request.user, "", "has no records.review_brokenglass")
        order = Reason(data=request.data)
        order.is_valid(raise_exception=True)
        found = BrokenGlass.objects.select_for_update().filter(pk=glass, reviewed_at=None).first()
        if found is None:
            raise NotFound
        if found.member_id == request.user.pk:
            refuse(request.user, found.patient.number, "would review their own emergency")
        found.reviewed_by, found.reviewed_at = request.user, timezone.now()
        found.finding = order.validated_data["reason"]
        found.save()
        tell("glass.reviewed", request.user, found.patient.number, {"glass": found.pk})
        return Response(status=status.HTTP_204_NO_CONTENT)


class Appointments(APIView):
    """Booking."""

    def post(self, request: Request) -> Response:
        """Book, unless the practitioner has another appointment then."""
        if not request.user.has_perm("records.add_appointment"):
            refuse(request.user, "", "has no records.add_appointment")
        order = Booking(data=request.data)
        order.is_valid(raise_exception=True)
        wish: dict[str, Any] = order.validated_data
        patient = Patient.objects.filter(number=wish["patient"]).first()
        if patient is None:
            raise ValidationError({"patient": "There is no such patient."})
        # The lock makes bookings of one practitioner come one after the other, so that none overlaps.
        staff = get_user_model().objects.select_for_update()
        practitioner = staff.filter(username=wish["practitioner"], is_active=True).first()
        if practitioner is None:
            raise ValidationError({"practitioner": "There is no such practitioner."})
        starts, ends = wish["starts"], wish["starts"] + timedelta(minutes=wish["minutes"])
        taken = Appointment.objects.filter(practitioner=practitioner, status=Appointment.Status.BOOKED)
        if taken.filter(starts__lt=ends, ends__gt=starts).exists():
            raise AlreadyTaken
        appointment = Appointment.objects.create(patient=patient, practitioner=practitioner, starts=starts, ends=ends)
        tell("appointment.booked", request.user, patient.number, {"appointment": appointment.pk})
        confirm_appointment.enqueue_sync(appointment.pk)
        return Response({"appointment": appointment.pk, "starts": starts, "ends": ends}, status=status.HTTP_201_CREATED)
