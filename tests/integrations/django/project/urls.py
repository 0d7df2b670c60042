"""The project's URLs."""

from typing import Any, cast

from django.urls import path

from tests.integrations.django.project import views

route = cast("Any", path)

urlpatterns = [
    route("add", views.add),
    route("add-async", views.add_async),
    route("add-in-thread", views.add_in_thread),
    route("notes/", views.Notes.as_view()),
    route("async-notes/", views.AsyncNotes.as_view()),
    route("plain", views.plain),
    route("status/<int:status>", views.with_status),
    route("status/<int:status>/<str:keep>", views.with_status),
    route("refuses", views.refuses),
    route("raises", views.raises),
    route("own-block", views.own_block),
    route("block-that-raises", views.block_that_raises),
    route("swallows", views.swallows),
    route("catches", views.catches),
    route("marks", views.marks),
    route("closes", views.closes),
    route("commits", views.commits),
    route("callbacks", views.callbacks),
    route("failing-callback", views.failing_callback),
    route("callback-of-what-is-undone", views.callback_of_what_is_undone),
    route("streams", views.streams),
    route("streams-async", views.streams_async),
    route("two-databases", views.two_databases),
    route("deferred", views.deferred),
    route("conflicts", views.conflicts),
    route("loses-connection", views.loses_connection),
    route("slow", views.slow),
    route("slow-in-database", views.slow_in_database),
    route("writes-later", views.writes_later),
    route("late-unit", views.late_unit),
    route("late-unit-async", views.late_unit_async),
    route("unit-inside-block", views.unit_inside_block),
    route("savepoints", views.savepoints),
    route("savepoints-async", views.savepoints_async),
    route("counts", views.counts),
    route("counts-async", views.counts_async),
    route("enqueues", views.enqueues),
    route("enqueues-async", views.enqueues_async),
    route("opted-out", views.Opted),
]
