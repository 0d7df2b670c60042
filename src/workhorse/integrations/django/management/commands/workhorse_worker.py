"""`manage.py workhorse_worker`."""

from workhorse.integrations.django.verbs import VerbCommand

__all__ = ["Command"]


class Command(VerbCommand):
    """As `workhorse worker`."""

    help = "Run the jobs that the service enqueues, and its feeds of events."
    verb = "worker"
