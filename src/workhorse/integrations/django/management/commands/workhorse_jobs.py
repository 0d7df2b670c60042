"""`manage.py workhorse_jobs`."""

from workhorse.integrations.django.verbs import VerbCommand

__all__ = ["Command"]


class Command(VerbCommand):
    """As `workhorse jobs`."""

    help = "Look at background jobs; retry, cancel or forget them."
    verb = "jobs"
    takes_service = False
