"""The project's service."""

from typing import Any, cast

from django.core.asgi import get_asgi_application

from workhorse import Policy, Service

service = Service(cast("Any", get_asgi_application()), policies=[Policy("POST /add", idempotent=True)])
