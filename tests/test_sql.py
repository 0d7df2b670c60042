import pytest

from workhorse.sql import load_queries, parse_queries


def test_queries_are_split_by_name_and_comments_left_out() -> None:
    queries = parse_queries("-- name: one\n-- A sentence.\nSELECT 1;\n\n-- name: two\nSELECT\n  2\n", origin="x.sql")
    assert dict(queries) == {"one": "SELECT 1", "two": "SELECT\n  2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2\n", "x.sql:3: the query 'a' is there twice"),
        ("SELECT 1\n", "x.sql:1: SQL before the first"),
        ("-- name: a\n-- only words\n", "the query 'a' has no SQL"),
    ],
)
def test_a_faulty_file_is_refused_when_it_is_loaded(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_queries(text, origin="x.sql")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(KeyError, match="it has: await_standby, claim_reply, keep_reply, purge_replies"):
        load_queries("workhorse.units", "sql/queries.sql")["nothing"]
