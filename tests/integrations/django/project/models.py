"""The models of a small project: notes, and the authors whom they refer to at the commit."""

from typing import Any

from django.db import models

from workhorse.integrations.django.fields import BlindIndexField, SealedManager, SealedTextField
from workhorse.privacy import HEALTH


class Note(models.Model):  # type: ignore[misc]  # Django has no types
    objects: Any
    text = models.TextField(unique=True)

    class Meta:
        app_label = "project"


class Author(models.Model):  # type: ignore[misc]
    objects: Any
    name = models.TextField()

    class Meta:
        app_label = "project"


class Book(models.Model):  # type: ignore[misc]
    """Its author is looked for at COMMIT: Django's foreign keys are deferred."""

    objects: Any
    author = models.ForeignKey(Author, on_delete=models.CASCADE)

    class Meta:
        app_label = "project"


class Patient(models.Model):  # type: ignore[misc]
    """What is known of a person is sealed under the person's key."""

    objects: Any = SealedManager()
    plain: Any = models.Manager()
    number = models.CharField(max_length=20, primary_key=True)
    name = models.TextField(null=True, unique=True)
    phone = SealedTextField("patient/{number}", blank=True)
    phone_index = BlindIndexField(of="phone")
    remark = SealedTextField("patient/{number}", null=True)

    __privacy__ = {"remark": HEALTH}  # noqa: RUF012 - as an app has it

    class Meta:
        app_label = "project"


class Visit(models.Model):  # type: ignore[misc]
    """Sealed under the key of another row's person."""

    objects: Any
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="visits")
    why = SealedTextField("patient/{patient_id}", db_column="reason")

    class Meta:
        app_label = "project"


class Odd(models.Model):  # type: ignore[misc]
    """Whose person is named by what the database numbers."""

    objects: Any = SealedManager()
    said = SealedTextField("odd/{pk}", null=True)

    class Meta:
        app_label = "project"
        db_table = "odd ones"
