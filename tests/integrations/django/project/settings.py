"""Settings of the project where it runs in processes of its own."""

import os
from typing import Any

from psycopg.conninfo import conninfo_to_dict

_url = conninfo_to_dict(os.environ["DATABASE_URL"])

SECRET_KEY = "only in this test"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.integrations.django.project.urls"
INSTALLED_APPS = ["workhorse.integrations.django", "tests.integrations.django.project"]
MIDDLEWARE = ["workhorse.integrations.django.UnitMiddleware"]
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url["dbname"],
        "USER": _url.get("user", ""),
        "PASSWORD": _url.get("password", ""),
        "HOST": _url.get("host", ""),
        "PORT": _url.get("port", ""),
        "OPTIONS": {"pool": True},
    }
}
TASKS = {
    "default": {
        "BACKEND": "workhorse.integrations.django.tasks.WorkhorseTasks",
        "QUEUES": ["default", "mail"],
    },
    "loose": {"BACKEND": "workhorse.integrations.django.tasks.WorkhorseTasks", "OPTIONS": {"atomic": False}},
}
WORKHORSE_SERVICE = "tests.integrations.django.project.asgi:service"
WORKHORSE_PRIVACY = "tests.integrations.django.project.privacy:PRIVACY"
