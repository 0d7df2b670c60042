"""The telephone number is sealed under a key for each patient.

In one step, since this clinic is an example: in production add the column, fill it, and take the old one out at the
next release, so that the old code runs meanwhile.
"""

from typing import Any

from django.db import migrations

import workhorse.integrations.django.fields as sealed


def seal(apps: Any, _editor: Any) -> None:
    """Seal the numbers that are there."""
    patients = apps.get_model("records", "Patient").objects
    for patient in patients.iterator(chunk_size=1_000):
        patient.sealed_phone = patient.phone
        patient.save(update_fields=["sealed_phone"])


class Migration(migrations.Migration):
    """One new column, one old one less."""

    dependencies = [("records", "0002_roles"), ("workhorse", "0001_workhorse")]

    operations = [
        migrations.AddField(
            "patient",
            "sealed_phone",
            sealed.SealedTextField("patient/{id}", sealed_as="patient.phone", max_length=40, blank=True, null=True),
        ),
        migrations.RunPython(seal, migrations.RunPython.noop),
        migrations.RemoveField("patient", "phone"),
        migrations.RenameField("patient", "sealed_phone", "phone"),
        migrations.AlterField(
            "patient",
            "phone",
            sealed.SealedTextField("patient/{id}", sealed_as="patient.phone", max_length=40, blank=True),
        ),
    ]
