"""The URLs of the project's pages."""

from typing import Any, cast

from django.contrib import admin
from django.urls import path

from tests.integrations.django.test_pages import page

route = cast("Any", path)

urlpatterns = [route("page", page), route("admin/", cast("Any", admin).site.urls)]
