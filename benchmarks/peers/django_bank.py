"""The bank's transfer in Django and Django REST framework, the ordinary way: the ORM, `atomic`, and a serializer.

What a careful team writes there: the accounts are locked in the order of their ids, so that two transfers cannot wait
for each other; the rules are checked under the lock, and the limits of a balance by the database too; each transfer has
its two entries; the reply is sent after the commit. There is no Idempotency-Key, no guard and no middleware but the one
that says how long a reply is. Handlers are synchronous, as the ORM is; each thread keeps its connection.

The tables are those of the SQLAlchemy peer.

    DATABASE_URL=postgresql://... granian --interface wsgi --blocking-threads 16 peers.django_bank:app
"""

import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import models, transaction
from django.urls import path
from django.utils import timezone

__all__ = ["app"]

LARGEST: Final = 2**53 - 1
LARGEST_ID: Final = 2**63 - 1
CURRENCIES: Final = ("EUR", "GBP", "JPY", "KWD", "USD")


def database(url: str) -> dict[str, Any]:
    """DATABASE_URL in Django's words."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": query.get("host", [parts.hostname or ""])[0],
        "PORT": query.get("port", [str(parts.port or "")])[0],
        "CONN_MAX_AGE": None,
    }


# Django wants its settings before the modules that need them.
settings.configure(
    SECRET_KEY="of no use here: nothing is signed",  # noqa: S106
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": database(os.environ["DATABASE_URL"])},
    INSTALLED_APPS=["rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    APPEND_SLASH=False,
    USE_TZ=True,
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

from rest_framework import serializers, status  # noqa: E402
from rest_framework.exceptions import APIException  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class Account(models.Model):
    """An account and its balance in minor units."""

    id = models.BigAutoField(primary_key=True)
    owner = models.CharField(max_length=140)
    currency = models.CharField(max_length=3)
    balance = models.BigIntegerField()
    floor = models.BigIntegerField()

    class Meta:
        app_label = "bank"
        managed = False
        db_table = "accounts"


class Transfer(models.Model):
    """A posted transfer."""

    id = models.BigAutoField(primary_key=True)
    debtor = models.ForeignKey(Account, models.DO_NOTHING, db_column="debtor", related_name="+")
    creditor = models.ForeignKey(Account, models.DO_NOTHING, db_column="creditor", related_name="+")
    currency = models.CharField(max_length=3)
    amount = models.BigIntegerField()
    reference = models.CharField(max_length=140)
    posted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        app_label = "bank"
        managed = False
        db_table = "transfers"


class Entry(models.Model):
    """One leg of a transfer."""

    pk = models.CompositePrimaryKey("transfer_id", "account_id")
    transfer = models.ForeignKey(Transfer, models.DO_NOTHING, db_column="transfer", related_name="+")
    account = models.ForeignKey(Account, models.DO_NOTHING, db_column="account", related_name="+")
    amount = models.BigIntegerField()

    class Meta:
        app_label = "bank"
        managed = False
        db_table = "entries"


class Refused(APIException):
    """The bank does not post this transfer."""

    def __init__(self, status_code: int, detail: str) -> None:
        super().__init__(detail)
        self.status_code = status_code


class TransferOrder(serializers.Serializer):
    """The wish to move `amount` minor units from the debtor's account to the creditor's."""

    debtor = serializers.IntegerField(min_value=1, max_value=LARGEST_ID)
    creditor = serializers.IntegerField(min_value=1, max_value=LARGEST_ID)
    currency = serializers.ChoiceField(choices=CURRENCIES)
    amount = serializers.IntegerField(min_value=1, max_value=LARGEST)
    reference = serializers.RegexField(r"^[^\x00-\x1f\x7f-\x9f]*\Z", max_length=140, allow_blank=True, default="")


class PostedTransfer(serializers.ModelSerializer):
    """A posted transfer, as the client gets it."""

    debtor = serializers.IntegerField(source="debtor_id")
    creditor = serializers.IntegerField(source="creditor_id")
    reverses = serializers.ReadOnlyField(default=None)

    class Meta:
        model = Transfer
        fields = ("id", "debtor", "creditor", "currency", "amount", "reference", "reverses", "posted_at")


class Transfers(APIView):
    """POST /transfers."""

    def post(self, request: Request) -> Response:
        """Move money from one account to another."""
        order = TransferOrder(data=request.data)
        if not order.is_valid():
            raise Refused(status.HTTP_422_UNPROCESSABLE_ENTITY, str(order.errors))
        posted = post_transfer(order.validated_data)
        return Response(PostedTransfer(posted).data, status=status.HTTP_201_CREATED)


class Ready(APIView):
    """GET /ready."""

    def get(self, request: Request) -> Response:  # noqa: ARG002 - the framework gives it
        """Say that it serves."""
        return Response({})


@transaction.atomic
def post_transfer(order: Mapping[str, Any]) -> Transfer:
    """Check and post.

    Raises:
        Refused: a rule forbids it.
    """
    if order["debtor"] == order["creditor"]:
        raise Refused(422, "debtor and creditor are the same account")
    wanted = Account.objects.filter(id__in=(order["debtor"], order["creditor"])).order_by("id")
    accounts = {account.id: account for account in wanted.select_for_update(no_key=True)}
    debtor, creditor = accounts.get(order["debtor"]), accounts.get(order["creditor"])
    if debtor is None or creditor is None:
        raise Refused(422, "an account does not exist")
    if debtor.currency != order["currency"] or creditor.currency != order["currency"]:
        raise Refused(422, "an account is kept in another currency")
    if debtor.balance - order["amount"] < debtor.floor:
        raise Refused(409, "the debtor's balance does not cover the amount")
    if creditor.balance + order["amount"] > LARGEST:
        raise Refused(422, "the creditor's balance would be too large")
    debtor.balance -= order["amount"]
    creditor.balance += order["amount"]
    debtor.save(update_fields=["balance"])
    creditor.save(update_fields=["balance"])
    posted = Transfer.objects.create(
        debtor=debtor,
        creditor=creditor,
        currency=order["currency"],
        amount=order["amount"],
        reference=order["reference"],
    )
    Entry.objects.bulk_create(
        [
            Entry(transfer=posted, account=debtor, amount=-order["amount"]),
            Entry(transfer=posted, account=creditor, amount=order["amount"]),
        ]
    )
    return posted


urlpatterns = [path("transfers", Transfers.as_view()), path("ready", Ready.as_view())]
app = get_wsgi_application()
