"""Every path of the clinic."""

from django.contrib import admin
from django.urls import path

from clinic.records import api, calendars, fhir_api

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/patients/", api.PatientList.as_view()),
    path("api/patients/<str:number>/", api.PatientRecord.as_view()),
    path("api/patients/<str:number>/notes/", api.Notes.as_view()),
    path("api/patients/<str:number>/prescriptions/", api.Prescriptions.as_view()),
    path("api/patients/<str:number>/break-glass/", api.BreakGlass.as_view()),
    path("api/break-glass/", api.OpenGlasses.as_view()),
    path("api/break-glass/<int:glass>/review/", api.GlassReview.as_view()),
    path("api/appointments/", api.Appointments.as_view()),
    path("api/appointments.ics", calendars.own_calendar),
    path("fhir/", fhir_api.Import.as_view()),
    path("fhir/Patient/<str:number>/$everything", fhir_api.Everything.as_view()),
]
