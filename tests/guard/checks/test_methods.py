"""Methods that are served, those that never are, and headers that name another one."""

import pytest

from tests.asgi_client import http_scope
from workhorse.errors import SettingsError
from workhorse.guard.checks.methods import METHODS, MethodRules, check_method, compile_methods
from workhorse.guard.facts import Facts

RULES = compile_methods()


def verdict(method: str, *headers: tuple[str, str], rules: MethodRules = RULES) -> str:
    refusal = check_method(rules, Facts(http_scope(method, "/", headers)))
    return "served" if refusal is None else f"{refusal.problem.status} {refusal.control}"


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_of_http_are_served(method: str) -> None:
    assert verdict(method) == "served"


@pytest.mark.parametrize(
    "method", ["TRACE", "TRACK", "CONNECT", "DEBUG", "QUERY", "PROPFIND", "BREW", "get", "Post", "GET ", "", "GET\x00"]
)
def test_other_words_are_not(method: str) -> None:
    assert verdict(method) == "501 method.not_served"


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_header_names_another_method(method: str, header: str) -> None:
    assert verdict(method, (header, "DELETE")) == "400 method.override"
    assert verdict(method, (header, "DELETE"), rules=compile_methods(insecure_override=True)) == "served"


def test_further_methods_are_served_where_they_are_listed() -> None:
    rules = compile_methods(methods=(*METHODS, "QUERY"))
    assert verdict("QUERY", rules=rules) == "served"
    assert verdict("PROPFIND", rules=rules) == "501 method.not_served"


@pytest.mark.parametrize("methods", [("GET", "TRACE"), ("CONNECT",), ("get",), ("",), ("GET POST",), ()])
def test_methods_that_cannot_be_served_are_refused_at_start_up(methods: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="method"):
        compile_methods(methods=methods)
