"""Django projects: units on Django's own connection, the routes for the policies to cover, checks and commands.

    INSTALLED_APPS = [..., "workhorse.integrations.django"]
    MIDDLEWARE = ["workhorse.integrations.django.UnitMiddleware", ...]

    service = Service(get_asgi_application(), policies=[...])

A request's ORM writes, events, jobs and kept reply then commit in one transaction on the connection that Django itself
uses. Importing this package loads no model and reads no setting.
"""

from workhorse.integrations.django.database import DjangoDatabase
from workhorse.integrations.django.jobs import with_orm
from workhorse.integrations.django.middleware import UnitMiddleware
from workhorse.integrations.django.routes import is_ours, list_routes, prefix_of, template_of
from workhorse.integrations.django.users import DjangoUsers

__all__ = [
    "DjangoDatabase",
    "DjangoUsers",
    "UnitMiddleware",
    "is_ours",
    "list_routes",
    "prefix_of",
    "template_of",
    "with_orm",
]
