"""`manage.py workhorse_check`."""

from workhorse.integrations.django.verbs import VerbCommand

__all__ = ["Command"]


class Command(VerbCommand):
    """As `workhorse check`."""

    help = "What guards each route; fails if a route lost a control."
    verb = "check"
