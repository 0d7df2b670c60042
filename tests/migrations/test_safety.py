"""What is not safe while the old version serves is found, with its mend; what is safe is let be."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.migrations import WORKHORSE, Migrations
from workhorse.migrations.safety import RULES, hazards
from workhorse.migrations.statements import statements

UNSAFE = {
    "add_not_null": ["ALTER TABLE t ADD COLUMN b int NOT NULL", "alter table app.t add b text not null, ADD c int"],
    "add_rewrites": [
        "ALTER TABLE t ADD b bigserial",
        "ALTER TABLE t ADD COLUMN b int GENERATED ALWAYS AS (a + 1) STORED",
        "ALTER TABLE t ADD b uuid DEFAULT gen_random_uuid()",
    ],
    "change_type": [
        "ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "ALTER TABLE t ALTER a SET DATA TYPE text USING a::text",
    ],
    "set_not_null": ["ALTER TABLE t ALTER a SET NOT NULL"],
    "drop_column": ["ALTER TABLE t DROP COLUMN a", "ALTER TABLE ONLY t DROP a", "ALTER TABLE t DROP IF EXISTS a"],
    "drop_table": ["DROP TABLE t", "DROP VIEW v", "DROP SCHEMA app CASCADE"],
    "truncate": ["TRUNCATE t", "TRUNCATE TABLE t, u"],
    "rename": ["ALTER TABLE t RENAME TO u", "ALTER TABLE t RENAME COLUMN a TO b", "ALTER TABLE t RENAME a TO b"],
    "index_locks": ["CREATE INDEX i ON t (a)", "CREATE UNIQUE INDEX ON t (a)"],
    "drop_index_locks": ["DROP INDEX i"],
    "constraint_scans": [
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
        "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id)",
        "ALTER TABLE t ADD CHECK (a > 0)",
    ],
    "constraint_builds": ["ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)", "ALTER TABLE t ADD PRIMARY KEY (a)"],
    "lock_table": ["LOCK TABLE t IN SHARE MODE"],
    "rewrite": ["VACUUM FULL t", "CLUSTER t", "REINDEX TABLE t"],
    "transaction": ["BEGIN", "COMMIT", "start transaction"],
}
SAFE = [
    "CREATE TABLE u (a int NOT NULL)",
    "CREATE TABLE u (a int); CREATE INDEX ON u (a); ALTER TABLE u ADD b int NOT NULL; DROP TABLE u",
    'CREATE TABLE app."U" (a int); CREATE INDEX ON app.u (a)',
    "ALTER TABLE t ADD b int",
    "ALTER TABLE t ADD COLUMN b int NOT NULL DEFAULT 0",
    "ALTER TABLE t ADD b timestamptz DEFAULT now()",
    "ALTER TABLE t ALTER a SET DEFAULT 5",
    "ALTER TABLE t ALTER a DROP NOT NULL",
    "ALTER TABLE t DROP CONSTRAINT c",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
    "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id) NOT VALID",
    "ALTER TABLE t VALIDATE CONSTRAINT c",
    "ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i",
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "DROP INDEX CONCURRENTLY i",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DROP TABLE t; COMMIT; RETURN 1; END $$",
    "DO $do$ BEGIN TRUNCATE t; END $do$",
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
    assert {rule.name for rule in RULES} == set(UNSAFE)


@pytest.mark.parametrize("sql", SAFE)
def test_what_is_safe_is_let_be(sql: str) -> None:
    assert list(hazards(sql)) == []


def test_what_is_accepted_is_that_one_statement_and_rule() -> None:
    sql = "-- workhorse: accept drop_table, because\nALTER TABLE t DROP a;\nDROP TABLE t;"
    assert [hazard.rule.name for hazard in hazards(sql)] == ["drop_column", "drop_table"]
    assert [hazard.rule.name for hazard in hazards("-- workhorse: accept drop_table,\nDROP TABLE t")] == ["drop_table"]


@pytest.mark.parametrize("migrations", [WORKHORSE, Migrations("bank", "bank")], ids=["workhorse", "bank"])
def test_our_own_are_safe(migrations: Migrations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "bank"))
    found = {one.name: [str(hazard) for hazard in hazards(one.sql)] for one in migrations.load()}
    assert not any(found.values()), found


@given(st.text(alphabet=" \n'\"$;-/*eabc\\", max_size=40))
def test_any_text_is_cut_into_statements_of_which_none_has_a_blank_too_much(sql: str) -> None:
    for statement in statements(sql):
        assert statement.words == " ".join(statement.words.split())
        assert 1 <= statement.line <= sql.count("\n") + 1


def test_a_statement_is_ended_by_its_own_semicolon_only() -> None:
    sql = "SELECT ';', $x$;$y$;$x$, \";\"; -- ;\n/* ; /* ; */ ; */ SELECT E'\\';';;"
    assert [one.words for one in statements(sql)] == ["SELECT '' , '' , \";\"", "SELECT ''"]
