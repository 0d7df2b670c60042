"""The models of a small project: notes, and the authors whom they refer to at the commit."""

from typing import Any

from django.db import models


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
