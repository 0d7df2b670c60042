"""The URLs of the project's pages."""

from typing import Any, cast

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import path

from tests.integrations.django.project.models import Note
from tests.integrations.django.test_pages import page, upload, whoami

route = cast("Any", path)

if not admin.site.is_registered(Note):
    admin.site.register(Note)

urlpatterns = [
    route("page", page),
    route("login", cast("Any", LoginView).as_view(template_name="admin/login.html", next_page="/page")),
    route("upload", upload),
    route("whoami", whoami),
    route("admin/", cast("Any", admin).site.urls),
]
