"""What the clinic keeps. What was written of a patient is never changed: a mistake is amended by what follows it."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from workhorse.integrations.django.fields import SealedManager, SealedTextField
from workhorse.privacy import HEALTH, INTERNAL, PERSONAL

__all__ = ["Appointment", "BrokenGlass", "CareTeam", "Note", "Observation", "Patient", "Prescription"]

STAFF = settings.AUTH_USER_MODEL


class Patient(models.Model):
    """A person who is, or was, treated here."""

    class Sex(models.TextChoices):
        """The codes of FHIR's AdministrativeGender."""

        MALE = "male"
        FEMALE = "female"
        OTHER = "other"
        UNKNOWN = "unknown"

    number = models.CharField("medical record number", max_length=64, unique=True)
    family_name = models.CharField(max_length=200)
    given_names = models.CharField(max_length=200, blank=True)
    birth_date = models.DateField(null=True, blank=True)
    sex = models.CharField(max_length=7, choices=Sex.choices, default=Sex.UNKNOWN)
    phone = SealedTextField("patient/{id}", sealed_as="patient.phone", max_length=40, blank=True)

    objects = SealedManager()

    __privacy__ = {
        "id": INTERNAL,
        "number": PERSONAL,
        "family_name": PERSONAL,
        "given_names": PERSONAL,
        "birth_date": PERSONAL,
        "sex": PERSONAL,
        "phone": PERSONAL,
    }

    class Meta:
        ordering = ("family_name", "given_names", "number")

    def __str__(self) -> str:
        return self.number  # a name in a log or a message would be one too many


class CareTeam(models.Model):
    """Who treats a patient, and so may see the record."""

    patient = models.ForeignKey(Patient, models.CASCADE, related_name="team")
    member = models.ForeignKey(STAFF, models.CASCADE, related_name="patients")

    class Meta:
        verbose_name = "member of a care team"
        verbose_name_plural = "care teams"
        constraints = [models.UniqueConstraint("patient", "member", name="one_membership")]

    def __str__(self) -> str:
        return f"{self.member} treats {self.patient}"


class BrokenGlass(models.Model):
    """Access to a record in an emergency, by somebody outside of the care team: for a reason, for a while, reviewed."""

    patient = models.ForeignKey(Patient, models.PROTECT, related_name="broken_glasses")
    member = models.ForeignKey(STAFF, models.PROTECT, related_name="broken_glasses")
    reason = models.TextField()
    opened_at = models.DateTimeField(auto_now_add=True)
    until = models.DateTimeField()
    reviewed_by = models.ForeignKey(STAFF, models.PROTECT, null=True, related_name="+")
    reviewed_at = models.DateTimeField(null=True)
    finding = models.TextField(blank=True)

    __privacy__ = {
        "id": INTERNAL,
        "patient": PERSONAL,
        "member": PERSONAL,
        "reason": HEALTH,
        "opened_at": INTERNAL,
        "until": INTERNAL,
        "reviewed_by": PERSONAL,
        "reviewed_at": INTERNAL,
        "finding": HEALTH,
    }

    class Meta:
        verbose_name = "broken glass"
        verbose_name_plural = "broken glasses"
        permissions = [("review_brokenglass", "Can review emergency access")]
        constraints = [
            models.CheckConstraint(
                condition=Q(reviewed_by__isnull=True, reviewed_at__isnull=True)
                | Q(reviewed_by__isnull=False, reviewed_at__isnull=False),
                name="reviewed_by_somebody",
            ),
            # Nobody is the judge of their own emergency.
            models.CheckConstraint(
                condition=Q(reviewed_by__isnull=True) | ~Q(reviewed_by=F("member")), name="reviewed_by_another"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.member} and {self.patient}, {self.opened_at:%Y-%m-%d %H:%M}"


class Note(models.Model):
    """What somebody found, thought or did."""

    patient = models.ForeignKey(Patient, models.PROTECT, related_name="notes")
    author = models.ForeignKey(STAFF, models.PROTECT, related_name="+")
    text = models.TextField()
    written_at = models.DateTimeField(auto_now_add=True)
    amends = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="amendments")

    __privacy__ = {
        "id": INTERNAL,
        "patient": PERSONAL,
        "author": PERSONAL,
        "text": HEALTH,
        "written_at": INTERNAL,
        "amends": INTERNAL,
    }

    class Meta:
        ordering = ("written_at", "id")

    def __str__(self) -> str:
        return f"note {self.pk}"


class Prescription(models.Model):
    """A medicine for a patient. It is withdrawn, never deleted."""

    patient = models.ForeignKey(Patient, models.PROTECT, related_name="prescriptions")
    prescriber = models.ForeignKey(STAFF, models.PROTECT, related_name="+")
    medicine = models.CharField(max_length=200)
    dose = models.CharField(max_length=200)
    signed_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    __privacy__ = {
        "id": INTERNAL,
        "patient": PERSONAL,
        "prescriber": PERSONAL,
        "medicine": HEALTH,
        "dose": HEALTH,
        "signed_at": INTERNAL,
        "withdrawn_at": INTERNAL,
    }

    class Meta:
        ordering = ("signed_at", "id")

    def __str__(self) -> str:
        return f"prescription {self.pk}"


class Observation(models.Model):
    """A measurement, as a laboratory or a device sent it (FHIR R4 Observation)."""

    patient = models.ForeignKey(Patient, models.PROTECT, related_name="observations")
    source = models.CharField("the sender's identifier", max_length=200)
    code = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    value = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    unit = models.CharField(max_length=40, blank=True)
    text = models.CharField(max_length=400, blank=True)
    status = models.CharField(max_length=20)
    observed_at = models.DateTimeField(null=True)

    __privacy__ = {
        "id": INTERNAL,
        "patient": PERSONAL,
        "source": INTERNAL,
        "code": HEALTH,
        "name": HEALTH,
        "value": HEALTH,
        "unit": INTERNAL,
        "text": HEALTH,
        "status": INTERNAL,
        "observed_at": HEALTH,
    }

    class Meta:
        ordering = ("observed_at", "id")
        constraints = [models.UniqueConstraint("patient", "source", name="observed_once")]

    def __str__(self) -> str:
        return f"observation {self.pk}"


class Appointment(models.Model):
    """A time that a practitioner keeps for a patient."""

    class Status(models.TextChoices):
        """As in FHIR's AppointmentStatus, as far as the clinic needs them."""

        BOOKED = "booked"
        CANCELLED = "cancelled"
        FULFILLED = "fulfilled"

    patient = models.ForeignKey(Patient, models.PROTECT, related_name="appointments")
    practitioner = models.ForeignKey(STAFF, models.PROTECT, related_name="appointments")
    starts = models.DateTimeField()
    ends = models.DateTimeField()
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.BOOKED)

    __privacy__ = {
        "id": INTERNAL,
        "patient": PERSONAL,
        "practitioner": PERSONAL,
        "starts": PERSONAL,
        "ends": PERSONAL,
        "status": INTERNAL,
    }

    class Meta:
        ordering = ("starts", "id")
        constraints = [models.CheckConstraint(condition=Q(ends__gt=F("starts")), name="ends_after_it_starts")]

    def __str__(self) -> str:
        return f"appointment {self.pk}"
