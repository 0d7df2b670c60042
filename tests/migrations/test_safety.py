"""What is not safe while the old version serves is found, with its mend; what is safe is let be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.errors import StartupError
from workhorse.migrations.rules import RULES
from workhorse.migrations.safety import hazards
from workhorse.migrations.statements import UnreadableSql, split_statements

UNSAFE = {
    "add_not_null": ["ALTER TABLE t ADD COLUMN b int NOT NULL", "alter table app.t add b text not null, ADD c int"],
    "add_rewrites": [
        "ALTER TABLE t ADD b bigserial",
        "ALTER TABLE t ADD COLUMN b int GENERATED ALWAYS AS (a + 1) STORED",
        "ALTER TABLE t ADD b uuid DEFAULT gen_random_uuid()",
        'ALTER TABLE t ADD b text DEFAULT app."Next" () NOT NULL',
    ],
    "change_type": [
        "ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "ALTER TABLE t ALTER a SET DATA TYPE text USING a::text",
    ],
    "set_not_null": ["ALTER TABLE t ALTER a SET NOT NULL"],
    "drop_column": ["ALTER TABLE t DROP COLUMN a", "ALTER TABLE ONLY t DROP a", "ALTER TABLE t DROP IF EXISTS a"],
    "drop_table": ["DROP TABLE t", "DROP VIEW v", "DROP SCHEMA app CASCADE", "DROP FUNCTION app.f(int, text)"],
    "truncate": ["TRUNCATE t", "TRUNCATE TABLE ONLY app.t RESTART IDENTITY CASCADE"],
    "rename": [
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t RENAME COLUMN a TO b",
        "ALTER TABLE t RENAME a TO b",
        "ALTER TYPE mood RENAME VALUE 'a' TO 'b'",
        "ALTER TABLE t SET SCHEMA app",
    ],
    "index_locks": [
        "CREATE INDEX i ON t (a)",
        "CREATE UNIQUE INDEX ON t (a)",
        'CREATE INDEX IF NOT EXISTS "I" ON ONLY "T" (a)',
    ],
    "drop_index_locks": ["DROP INDEX i"],
    "constraint_scans": [
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
        "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id)",
        "ALTER TABLE t ADD CHECK (a > 0)",
        "ALTER DOMAIN amount ADD CONSTRAINT c CHECK (VALUE > 0)",
        "ALTER TABLE t ADD b int REFERENCES u",
        "ALTER TABLE t ADD b int DEFAULT 1 CHECK (b > 0)",
    ],
    "constraint_builds": [
        "ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)",
        "ALTER TABLE t ADD PRIMARY KEY (a)",
        "ALTER TABLE t ADD b int UNIQUE",
    ],
    "validate_with_add": ["ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID, VALIDATE CONSTRAINT c"],
    "lock_table": ["LOCK TABLE t IN SHARE MODE"],
    "rewrite": ["CLUSTER t", "REINDEX TABLE t", "ALTER TABLE t SET UNLOGGED", "ALTER TABLE t SET TABLESPACE fast"],
    "needs_no_transaction": ["CREATE INDEX CONCURRENTLY i ON t (a)", "DROP INDEX CONCURRENTLY i", "VACUUM t"],
    "refresh": ["REFRESH MATERIALIZED VIEW v"],
    "partition": ["CREATE TABLE p PARTITION OF t FOR VALUES IN (1)", "ALTER TABLE t DETACH PARTITION p"],
    "whole_table": [
        "UPDATE t SET a = 1",
        "DELETE FROM ONLY t",
        "WITH x AS (UPDATE u SET a = 1 WHERE b) UPDATE t SET a = 1",
        "UPDATE t SET a = (SELECT 1 WHERE true)",
    ],
    "do_block": ["DO $do$ BEGIN TRUNCATE t; END $do$"],
    "transaction": ["BEGIN", "COMMIT", "start transaction", "SAVEPOINT s"],
}
SKIPS = """-- workhorse: no transaction
-- workhorse: repeat until no rows
DELETE FROM t WHERE a IN (SELECT a FROM t LIMIT 9 FOR UPDATE SKIP LOCKED)
"""
SAFE = [
    "CREATE TABLE u (a int NOT NULL)",
    "CREATE TABLE u (a int); CREATE INDEX ON u (a); ALTER TABLE u ADD b int NOT NULL; DROP TABLE u",
    'CREATE TABLE app."u" (a int); CREATE INDEX ON app.U (a)',
    "CREATE TABLE u (a int); UPDATE u SET a = 1; TRUNCATE u; LOCK u; ALTER TABLE u RENAME TO v",
    "ALTER TABLE t ADD b int",
    "ALTER TABLE t ADD COLUMN b int NOT NULL DEFAULT 0",
    "ALTER TABLE t ADD b timestamptz DEFAULT now()",
    "ALTER TABLE t ALTER a SET DEFAULT 5",
    "ALTER TABLE t ALTER a DROP NOT NULL",
    "ALTER TABLE t DROP CONSTRAINT c",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
    "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id) NOT VALID",
    "ALTER TABLE t VALIDATE CONSTRAINT c",
    "ALTER DOMAIN amount ADD CONSTRAINT c CHECK (VALUE > 0) NOT VALID",
    "ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i",
    "ALTER INDEX i RENAME TO j",
    "ALTER TABLE t ADD b numeric DEFAULT 0::numeric(10, 2) NOT NULL",
    "ALTER TABLE t ADD b varchar(20) DEFAULT 'a' COLLATE \"C\"",
    "-- workhorse: no transaction\nCREATE INDEX CONCURRENTLY i ON t (a); DROP INDEX CONCURRENTLY IF EXISTS j",
    "-- workhorse: no transaction\n-- workhorse: repeat until no rows\nUPDATE t SET b = 1 WHERE b IS NULL AND a < 9",
    "-- workhorse: no transaction\nALTER TABLE t ADD CHECK (a > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c",
    "PREPARE x AS SELECT 1",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END; SELECT 1",
    "UPDATE t SET a = 1 WHERE b",
    "WITH x AS (SELECT a FROM t WHERE b) UPDATE t SET a = 1 FROM x WHERE t.a = x.a",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DROP TABLE t; COMMIT; RETURN 1; END $$",
    "INSERT INTO t VALUES ('DROP TABLE t; it''s a text')",
    "-- DROP TABLE t;\n/* TRUNCATE t; /* nested */ */ SELECT 1",
    "-- workhorse: accept drop_column, since no version reads it from 2.3 on\nALTER TABLE t DROP COLUMN a",
]


@pytest.mark.parametrize(("name", "sql"), [(name, sql) for name, texts in UNSAFE.items() for sql in texts])
def test_what_is_not_safe_is_found(name: str, sql: str) -> None:
    found = list(hazards(f"SELECT 1;\n\n{sql};\nSELECT 2"))
    assert [hazard.rule.name for hazard in found] == [name]
    assert found[0].line == 3
    assert "mend: " in str(found[0])


def test_each_rule_has_examples() -> None:
    others = {"many_tables", "accepts_nothing"}
    assert {rule.name for rule in RULES} == set(UNSAFE) | others


def named(sql: str, *, number: int = 0) -> list[str]:
    return [hazard.rule.name for hazard in hazards(sql, number=number)]


def test_two_tables_in_one_file_are_two_locks_of_which_one_is_waited_for() -> None:
    assert named("ALTER TABLE t ADD a int; ALTER TABLE u ADD a int") == ["many_tables"]
    assert named("ALTER TABLE t ADD a int; ALTER TABLE t ADD b int") == []
    assert named("-- workhorse: no transaction\nALTER TABLE t ADD a int; ALTER TABLE u ADD a int") == []


def test_a_table_that_may_have_been_there_is_not_taken_for_a_new_one() -> None:
    assert named("CREATE TABLE IF NOT EXISTS t (a int); CREATE INDEX ON t (a)") == ["index_locks"]
    assert named("CREATE TABLE app.t (a int); CREATE INDEX ON other.t (a)") == ["index_locks"]


@pytest.mark.parametrize("sql", SAFE)
def test_what_is_safe_is_let_be(sql: str) -> None:
    assert list(hazards(sql)) == []


def test_what_is_accepted_is_that_one_statement_and_rule() -> None:
    assert named("-- workhorse: accept drop_column, because\nALTER TABLE t DROP a;\nDROP TABLE t;") == ["drop_table"]
    late = "ALTER TABLE t DROP a; -- workhorse: accept drop_column, too late\nDROP TABLE t;"
    assert named(late) == ["drop_column", "drop_table", "accepts_nothing"]


def test_taking_away_is_told_by_the_number_that_code_needs_and_not_by_its_own() -> None:
    assert named("-- workhorse: needs 0003\nALTER TABLE t DROP a; DROP TABLE u", number=5) == []
    assert named("-- workhorse: needs 0005\nALTER TABLE t DROP a", number=5) == ["drop_column"]
    assert named("-- workhorse: needs 0003\nTRUNCATE t", number=5) == ["truncate"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("-- workhorse: no transactions\nSELECT 1", "line 1: .*unknown; did you mean `no transaction`"),
        ("-- workhorse: accept drop_tables, since\nSELECT 1", "no rule 'drop_tables' to accept; there are: drop_table"),
        ("\n-- workhorse: accept drop_table,\nDROP TABLE t", "line 2: say why"),
        ("SELECT 1;\n-- workhorse: no transaction\nSELECT 1", "line 2: .*first line"),
        ("-- workhorse: repeat until no rows\nUPDATE t SET a = 1", "needs `-- workhorse: no transaction`"),
        ("-- workhorse: no transaction\n-- workhorse: repeat until no rows\nSELECT f()", "tell how many rows"),
        (
            SKIPS,
            "left out for good",
        ),
        ("-- workhorse: no transaction\nSET search_path = app", "would be forgotten"),
        ("-- workhorse: no transaction\nCREATE INDEX CONCURRENTLY ON t (a)", "the index has no name"),
        ("-- workhorse: no transaction\nREINDEX TABLE CONCURRENTLY t", "run this statement by hand"),
        ("SELECT 1;\n-- workhorse: accept drop_table, since", "line 2: no statement follows"),
        ("SELECT 'a;\n", "line 1: a string has no end"),
        ("SELECT 1;\n$x$ ;", "line 2: the string after \\$x\\$ has no end"),
        ("\n/* /* */", "line 2: a comment has no end"),
    ],
)
def test_a_comment_or_a_text_that_cannot_be_read_is_refused_with_its_line(sql: str, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        list(hazards(sql, origin="own 0001_x"))


@given(st.text(alphabet=" \n'\"$;-/*eabc\\()", max_size=40))
def test_any_text_is_cut_into_statements_or_refused_with_a_line_of_it(sql: str) -> None:
    last = sql.count("\n") + 1
    try:
        found = list(split_statements(sql))
    except UnreadableSql as refused:
        line = refused.line
        found = []
    else:
        line = 1
    assert 1 <= line <= last
    position = 0
    for statement in found:
        assert statement.text == statement.text.strip()
        assert 1 <= statement.line <= last
        position = sql.index(statement.text, position) + len(statement.text)


@given(st.lists(st.sampled_from(["SELECT ';'", "SELECT $a$;$b$;$a$", 'SELECT ";"', "SELECT (1;2)", "SELECT E'\\';'"])))
def test_statements_that_are_joined_by_semicolons_are_cut_there_and_nowhere_else(texts: list[str]) -> None:
    joined = " ; -- a ; comment\n/* ; /* ; */ ; */ ".join(texts)
    assert [one.text for one in split_statements(joined) if one.tokens] == texts
