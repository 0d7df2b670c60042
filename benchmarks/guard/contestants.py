"""All that is measured, by name: how it is built, and what to take off its figure to get what it adds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from benchmarks.guard import subject
from benchmarks.guard.stacks.bare import fastapi_app, null, starlette_app
from benchmarks.guard.stacks.built import Built
from benchmarks.guard.stacks.careful import CAREFUL, PARTS, careful_app
from benchmarks.guard.stacks.django_stack import BUILT_INS as DJANGO
from benchmarks.guard.stacks.django_stack import django_app
from benchmarks.guard.stacks.litestar_stack import BUILT_INS as LITESTAR
from benchmarks.guard.stacks.litestar_stack import litestar_app
from benchmarks.guard.stacks.shape import Shape
from benchmarks.guard.traffic import Credentials

__all__ = ["ALL", "CLAIMED", "SHARED_MODULES", "Contestant", "Stage", "careful_parts"]

SHARED_MODULES: Final = (
    *(
        "asgi_correlation_id",
        "content_size_limit_asgi",
        "cryptography.hazmat.primitives.serialization",
        "jwt",
        "orjson",
    ),
    *("fastapi_limiter.depends", "prometheus_fastapi_instrumentator", "pyrate_limiter", "secure.middleware", "slowapi"),
    *(
        "slowapi.middleware",
        "starlette.middleware.cors",
        "starlette.middleware.sessions",
        "starlette_csrf",
        "structlog",
    ),
    *("uvicorn.middleware.proxy_headers", "litestar", "litestar.middleware.csrf", "litestar.middleware.rate_limit"),
    *("litestar.plugins.prometheus", "django.core.asgi", "django.http", "django.middleware.csrf", "django.urls"),
)
"""What takes time to import and does nothing by being there, for a process that many contestants are forked from."""


class Stage(NamedTuple):
    """What a contestant is built for."""

    credentials: Credentials
    serving: bool
    """Whether time passes as it does under a server, so that what works in the background may."""


Builder: TypeAlias = Callable[[Stage], Built]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Something that serves the requests."""

    title: str
    """What the table calls it."""
    base: str
    """The contestant whose figure is taken off; its own name for none."""
    build: Builder


def careful_parts(controls: frozenset[str]) -> frozenset[str]:
    """The parts of the careful stack whose controls the guard has too: those that it may be compared with."""
    return frozenset(part for part in CAREFUL if PARTS[part][0] in controls)


def _guarded(bare: Builder, choice: subject.GuardChoice) -> Builder:
    return lambda stage: subject.build(bare(stage).app, stage.credentials, choice, serving=stage.serving)


def _null(_: Stage) -> Built:
    return Built(app=null)


def _starlette(_: Stage) -> Built:
    return starlette_app()


def _fastapi(_: Stage) -> Built:
    return Built(app=fastapi_app())


def _shape(_: Stage) -> Built:
    return Built(app=Shape(fastapi_app()))


def _careful(parts: frozenset[str], stage: Stage) -> Built:
    return careful_app(stage.credentials, parts)


def _litestar(parts: frozenset[str], _: Stage) -> Built:
    return litestar_app(parts)


def _django(parts: frozenset[str], _: Stage) -> Built:
    return django_app(parts)


CLAIMED: Final = "fastapi+careful"
"""The stack that the guard is compared with: the careful one, as far as the guard has its controls."""


def _all() -> Mapping[str, Contestant]:
    found: dict[str, Contestant] = {}

    def add(name: str, title: str, base: str, build: Builder) -> None:
        found[name] = Contestant(title=title, base=base, build=build)

    bares: Mapping[str, tuple[str, Builder]] = {
        "null": ("null app", _null),
        "starlette": ("Starlette", _starlette),
        "fastapi": ("FastAPI", _fastapi),
    }
    for name, (title, build) in bares.items():
        add(name, title, "null", build)
    for name, (title, build) in bares.items():
        add(f"{name}+guard", f"{title} + our guard", name, _guarded(build, subject.WHOLE))
    add("fastapi+shape", "FastAPI + a guard's shape without any check", "fastapi", _shape)
    compared = careful_parts(subject.CONTROLS)
    add(CLAIMED, "FastAPI + careful stack, our guard's controls", "fastapi", partial(_careful, compared))
    if compared != CAREFUL:
        missing = " and ".join(sorted(PARTS[part][1] for part in CAREFUL - compared))
        add("fastapi+careful-all", f"the same + {missing}", "fastapi", partial(_careful, CAREFUL))
    for part, (_, title) in PARTS.items():
        add(f"fastapi+{part}", f"FastAPI + {title}", "fastapi", partial(_careful, frozenset({part})))
    add("litestar", "Litestar", "null", partial(_litestar, frozenset()))
    everything = frozenset(LITESTAR)
    add("litestar+all", "Litestar + its built-ins", "litestar", partial(_litestar, everything))
    for part in LITESTAR:
        add(f"litestar+{part}", f"Litestar + its {part}", "litestar", partial(_litestar, frozenset({part})))
    add("django", "Django (ASGI)", "null", partial(_django, frozenset()))
    add("django+all", "Django + its built-ins", "django", partial(_django, frozenset(DJANGO)))
    for part, (path, _) in DJANGO.items():
        title = path.rpartition(".")[2]
        add(f"django+{part}", f"Django + {title}", "django", partial(_django, frozenset({part})))
    for name, choice in subject.LESS.items():
        add(f"less {name}", f"null app + our guard without its {name}", "null+guard", _guarded(_null, choice))
    return found


ALL: Final = _all()
