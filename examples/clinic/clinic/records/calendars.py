"""Appointments as a calendar that phones and programs subscribe to (iCalendar, RFC 5545)."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from icalendar import Calendar, Event

from clinic.records.access import tell
from clinic.records.models import Appointment

__all__ = ["calendar_of", "own_calendar"]

AHEAD: Final = timedelta(days=60)
BEFORE: Final = timedelta(days=7)
MOST: Final = 1_000


@login_required
def own_calendar(request: HttpRequest) -> HttpResponse:
    """The appointments of whoever asks, a week back and two months ahead."""
    now = timezone.now()
    own = Appointment.objects.filter(
        practitioner=request.user.pk, starts__gt=now - BEFORE, starts__lt=now + AHEAD
    ).select_related("patient")
    tell("calendar.read", request.user, "", {})
    reply = HttpResponse(calendar_of(own[:MOST]), content_type="text/calendar; charset=utf-8")
    reply["Content-Disposition"] = 'attachment; filename="appointments.ics"'
    return reply


def calendar_of(appointments: Iterable[Appointment]) -> bytes:
    """The calendar. It goes to devices that the clinic does not guard, so it names patients by their number only."""
    calendar = Calendar()
    calendar.add("prodid", "-//Workhorse//Clinic//EN")
    calendar.add("version", "2.0")
    for appointment in appointments:
        event = Event()
        event.add("uid", f"appointment-{appointment.pk}@clinic.example")
        event.add("dtstamp", timezone.now())
        event.add("dtstart", appointment.starts)
        event.add("dtend", appointment.ends)
        event.add("summary", f"Patient {appointment.patient.number}")
        event.add("status", "CANCELLED" if appointment.status == Appointment.Status.CANCELLED else "CONFIRMED")
        event.add("class", "CONFIDENTIAL")
        calendar.add_component(event)
    return bytes(calendar.to_ical())
