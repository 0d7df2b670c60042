"""An API by Django's REST framework, and one by django-ninja."""

from typing import Any, cast

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path
from ninja import NinjaAPI, Schema
from ninja.responses import Status
from rest_framework import routers, serializers, viewsets
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view
from rest_framework.permissions import AllowAny

from tests.integrations.django.project.models import Note
from tests.integrations.django.project.views import NoteRefused
from workhorse import sync_unit

route = cast("Any", path)


class NoteSerializer(serializers.ModelSerializer):  # type: ignore[misc]  # the framework has no types
    class Meta:
        model = Note
        fields = ("id", "text")


class Notes(viewsets.ModelViewSet):  # type: ignore[misc]
    queryset = Note.objects.all()
    serializer_class = NoteSerializer
    authentication_classes = (SessionAuthentication,)
    permission_classes = (AllowAny,)  # what the policies say is what counts

    def perform_create(self, serializer: Any) -> None:
        note = serializer.save()
        sync_unit().emit("note.added", subject=str(note.pk))


@api_view(["POST"])  # type: ignore[untyped-decorator]
def refuses(request: Any) -> Any:
    Note.objects.create(text="refused")
    raise NoteRefused("It is refused.")


class NoteIn(Schema):
    text: str
    status: int = 201


api = NinjaAPI(docs_url=None, openapi_url=None)


def add(note: NoteIn) -> Any:
    sync_unit().emit("note.added", subject="1")
    return Status(note.status, Note.objects.create(text=note.text).text)


@api.get("/notes")
def listed(request: Any) -> list[str]:
    return list(Note.objects.order_by("id").values_list("text", flat=True))


@api.post("/notes", response={201: str, 400: str})
def added(request: Any, note: NoteIn) -> Any:
    return add(note)


@api.post("/async-notes", response={201: str, 400: str})
async def added_async(request: Any, note: NoteIn) -> Any:
    return await sync_to_async(add)(note)


@api.get("/notes/{int:pk}")
def one(request: Any, pk: int) -> str:
    return str(Note.objects.get(pk=pk).text)


router = routers.DefaultRouter()
router.include_format_suffixes = False
router.register("notes", Notes)

urlpatterns = [
    route("login", cast("Any", LoginView).as_view(template_name="admin/login.html", next_page="/rest/")),
    route("admin/", cast("Any", admin).site.urls),
    route("rest/refuses/", refuses),
    route("rest/", cast("Any", include)(router.urls)),
    route("ninja/", api.urls),
]
