"""The service: `workhorse run clinic.asgi:service` serves the admin and the API."""

import os
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clinic.settings")

from django.core.asgi import get_asgi_application

APP = get_asgi_application()  # sets Django up, without which models cannot be imported

from clinic.privacy import PRIVACY
from clinic.records.jobs import ask_for_review, confirm_appointment
from workhorse import Policy, Rate, Service

__all__ = ["POLICIES", "service"]

POLICIES = [
    # A patient's booking that is sent again, because its reply was lost, is the same booking.
    Policy("POST /api/appointments/", idempotent=True),
    Policy("POST /api/patients/{number}/prescriptions/", idempotent=True),
    Policy("POST /api/patients/{number}/break-glass/", rate=Rate("10/hour", per="address")),
    # Bundles are large, and come from a laboratory's program.
    Policy(
        "POST /fhir/",
        idempotent=True,
        max_body_bytes=8 * 1024 * 1024,
        deadline=30,
        content_types=["application/fhir+json", "application/json"],
    ),
    Policy("POST /admin/login/", rate=Rate("30/minute", per="address")),
]

service = Service(cast("Any", APP), policies=POLICIES, jobs=[ask_for_review, confirm_appointment], privacy=PRIVACY)
