"""What of a migration is not safe while the old version of the code still serves.

Two things are not. A statement that holds a lock which readers or writers need, for as long as it looks at or rewrites
all rows: they wait, and the service stands still. And one that takes away, or asks for, what the old code does not
know: its statements fail. Each has another way, which is said with it.

A table that the same migration has made is nobody's yet, and may be treated in any way. Who knows better says so above
the statement, with a reason:

    -- workhorse: accept drop_column, since no version reads it from 2.3 on
    ALTER TABLE accounts DROP COLUMN nickname;
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from workhorse.migrations.statements import Statement, statements

__all__ = ["RULES", "Hazard", "Rule", "hazards"]

_NAME: Final = r'(?:"(?:[^"]|"")+"|\w+)(?:\.(?:"(?:[^"]|"")+"|\w+))?'
_MADE: Final = re.compile(
    rf"^CREATE (?:(?:GLOBAL |LOCAL )?TEMP(?:ORARY)? |UNLOGGED )?TABLE (?:IF NOT EXISTS )?(?P<table>{_NAME})",
    re.IGNORECASE,
)
_TABLE: Final = re.compile(
    rf"^(?:ALTER TABLE|DROP TABLE|TRUNCATE(?: TABLE)?|LOCK(?: TABLE)?|CLUSTER|VACUUM FULL) (?:IF EXISTS )?(?:ONLY )?"
    rf"(?P<table>{_NAME})",
    re.IGNORECASE,
)
_INDEXED: Final = re.compile(
    rf"^CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?(?:{_NAME} )?ON (?:ONLY )?(?P<table>{_NAME})", re.IGNORECASE
)
_ACCEPT: Final = re.compile(r"^workhorse: accept (?P<rule>[a-z_]+), (?P<reason>\S.*)$")
_ADD: Final = r"\bADD (?:COLUMN )?(?:IF NOT EXISTS )?(?!CONSTRAINT|PRIMARY|UNIQUE|CHECK|FOREIGN|EXCLUDE|TABLE)"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of statement that is not safe."""

    name: str
    pattern: re.Pattern[str]
    why: str
    mend: str


def _rule(name: str, pattern: str, why: str, mend: str) -> Rule:
    return Rule(name, re.compile(pattern, re.IGNORECASE), why, mend)


RULES: Final = (
    _rule(
        "add_not_null",
        rf"^ALTER TABLE .*{_ADD}[^,]*\bNOT NULL\b(?![^,]*\b(?:DEFAULT|GENERATED)\b)(?<!DEFAULT)",
        "the old code's INSERTs do not name the column, and fail; so does the statement where there are rows",
        "give it a DEFAULT, or add it without NOT NULL",
    ),
    _rule(
        "add_rewrites",
        rf"^ALTER TABLE .*{_ADD}[^,]*(?:\b(?:small|big)?serial\b|\bGENERATED\b"
        r"|\bDEFAULT (?:\w+\.)?(?:gen_random_uuid|random|clock_timestamp|nextval|uuidv7|timeofday)\b)",
        "every row is written anew under a lock that nobody passes",
        "add the column without it, then set the DEFAULT, and fill the old rows in small transactions",
    ),
    _rule(
        "change_type",
        r"^ALTER TABLE .*\bALTER (?:COLUMN )?\S+ (?:SET DATA )?TYPE\b",
        "most changes write every row anew under a lock that nobody passes, and the old code sends the old type",
        "add a column of the new type, write to both, fill it, and take the old one away in a later release",
    ),
    _rule(
        "set_not_null",
        r"^ALTER TABLE .*\bALTER (?:COLUMN )?\S+ SET NOT NULL\b",
        "all rows are looked at under a lock that nobody passes",
        "ADD CONSTRAINT ... CHECK (column IS NOT NULL) NOT VALID, then VALIDATE CONSTRAINT in a migration of its own",
    ),
    _rule(
        "drop_column",
        r"^ALTER TABLE .*\bDROP (?:COLUMN )?(?:IF EXISTS )?(?!CONSTRAINT|DEFAULT|NOT|EXPRESSION|IDENTITY)\S+",
        "the old code still names the column",
        "take it away one release after the last code that names it, and accept this then",
    ),
    _rule(
        "drop_table",
        r"^DROP (?:TABLE|VIEW|MATERIALIZED VIEW|SCHEMA|TYPE|DOMAIN|SEQUENCE)\b",
        "the old code still uses it",
        "take it away one release after the last code that uses it, and accept this then",
    ),
    _rule(
        "truncate",
        r"^TRUNCATE\b",
        "it takes the rows away, under a lock that nobody passes",
        "DELETE in small transactions",
    ),
    _rule(
        "rename",
        r"^ALTER (?:TABLE|INDEX|VIEW|TYPE|SCHEMA|SEQUENCE|MATERIALIZED VIEW|FUNCTION) .*"
        r"\bRENAME (?:TO|COLUMN|CONSTRAINT|VALUE|\S+ TO)\b",
        "the old code knows the old name only",
        "add the new one, keep both in step, and take the old one away in a later release",
    ),
    _rule(
        "index_locks",
        r"^CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY\b)",
        "nobody writes to the table until the index is built",
        "CREATE INDEX CONCURRENTLY, alone in a file whose first line is `-- workhorse: no transaction`",
    ),
    _rule(
        "drop_index_locks",
        r"^DROP INDEX (?!CONCURRENTLY\b)",
        "it waits for a lock that nobody passes",
        "DROP INDEX CONCURRENTLY, alone in a file whose first line is `-- workhorse: no transaction`",
    ),
    _rule(
        "constraint_scans",
        r"^ALTER TABLE .*\bADD (?:CONSTRAINT \S+ )?(?:CHECK|FOREIGN KEY)\b(?!.*\bNOT VALID\b)",
        "all rows are looked at, while nobody writes",
        "add it NOT VALID, and VALIDATE CONSTRAINT in a migration of its own",
    ),
    _rule(
        "constraint_builds",
        r"^ALTER TABLE .*\bADD (?:CONSTRAINT \S+ )?(?:UNIQUE|PRIMARY KEY|EXCLUDE)\b(?!.*\bUSING INDEX\b)",
        "an index is built under a lock that nobody passes",
        "CREATE UNIQUE INDEX CONCURRENTLY in a migration of its own, then ADD CONSTRAINT ... USING INDEX",
    ),
    _rule("lock_table", r"^LOCK\b", "whoever needs the table waits for the end of the migration", "do without"),
    _rule(
        "rewrite",
        r"^(?:VACUUM FULL|CLUSTER|REINDEX (?!.*\bCONCURRENTLY\b)|REFRESH MATERIALIZED VIEW (?!CONCURRENTLY\b))",
        "everything is written anew under a lock that nobody passes",
        "pg_repack, REINDEX CONCURRENTLY or REFRESH ... CONCURRENTLY, outside of migrations",
    ),
    _rule(
        "transaction",
        r"^(?:BEGIN|COMMIT|ROLLBACK|END|START TRANSACTION|SAVEPOINT|ABORT)\b",
        "a migration is one transaction with its record; half of it would stand",
        "leave it out, and write two migrations where two transactions are wanted",
    ),
)


@dataclass(frozen=True, slots=True)
class Hazard:
    """One statement that is not safe."""

    line: int
    """Of the migration's text, from 1."""
    rule: Rule
    statement: str
    """Its beginning."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.rule.name}: {self.statement}\n    {self.rule.why}\n    mend: {self.rule.mend}"


def hazards(sql: str, *, made: Iterable[str] = ()) -> Iterator[Hazard]:
    """What of a migration's text is not safe.

    Args:
        sql: the text.
        made: tables that are nobody's yet, beside those that the text makes.
    """
    new = {_plain(table) for table in made}
    for statement in statements(sql):
        match = _MADE.match(statement.words)
        if match is not None:
            new.add(_plain(match["table"]))
            continue
        if _plain(_table_of(statement.words)) in new:
            continue
        accepted = set(_accepted(statement))
        for rule in RULES:
            if rule.pattern.search(statement.words) and rule.name not in accepted:
                yield Hazard(statement.line, rule, statement.words[:80])


def _accepted(statement: Statement) -> Iterator[str]:
    for note in statement.notes:
        match = _ACCEPT.match(note)
        if match is not None:
            yield match["rule"]


def _table_of(words: str) -> str:
    match = _TABLE.match(words) or _INDEXED.match(words)
    return match["table"] if match is not None else ""


def _plain(name: str) -> str:
    return name.replace('"', "").lower()
