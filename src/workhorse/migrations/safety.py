"""Finds what of a migration is not safe while the old version of the code still serves, by its text alone.

It errs on the side of finding: it knows no sizes, and what functions do is not seen. What the same file has made is
nobody's yet, and may be treated in any way. Who knows better says so above the statement, with a reason:

    -- workhorse: accept drop_column, since no version reads it from 2.3 on
    ALTER TABLE accounts DROP COLUMN nickname;
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from workhorse.migrations import Migration, Migrations
from workhorse.migrations.grammar import Reader, items
from workhorse.migrations.rules import RULES, Rule
from workhorse.migrations.script import Script, Statement, read_script

__all__ = ["Finding", "Hazard", "hazards", "lint", "needed_number"]

_RULES: Final = {rule.name: rule for rule in RULES}
# Functions whose value is the same for all rows of a statement, so that as a default they rewrite nothing.
_STABLE: Final = frozenset(
    {"now", "transaction_timestamp", "statement_timestamp", "timezone", "date_trunc", "to_timestamp"}
)
# What may follow a default in the definition of a column.
_AFTER_DEFAULT: Final = frozenset({"not", "null", "check", "references", "unique", "primary", "constraint", "collate"})
_SERIAL: Final = frozenset({"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"})
# fmt: off
_OBJECTS: Final = frozenset({
    "table", "view", "materialized", "function", "procedure", "routine", "aggregate", "type", "domain", "sequence",
    "schema", "foreign", "owned", "extension",
})
# fmt: on
_MADE: Final = frozenset(
    {"table", "view", "type", "domain", "sequence", "function", "procedure", "index", "schema", "aggregate"}
)


@dataclass(frozen=True, slots=True)
class Hazard:
    """One thing that is not safe."""

    line: int
    """Where its statement begins, from 1."""
    rule: Rule
    subject: str
    """What it is about: a table, a column, an index."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.rule.name} ({self.subject}): {self.rule.why}; mend: {self.rule.mend}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A hazard, and whose it is."""

    set_name: str
    migration: Migration
    hazard: Hazard

    def __str__(self) -> str:
        return f"{self.set_name} {self.migration.label}, {self.hazard}"


def lint(sets: Sequence[Migrations]) -> list[Finding]:
    """Look at all migrations of the sets, from the `lint_from` of each: which ones a database lacks is not known here.

    Raises:
        StartupError: a file is misnamed, or cannot be read.
    """
    return [
        Finding(one.name, migration, hazard)
        for one in sets
        for migration in one.load()
        if migration.number >= one.lint_from
        for hazard in hazards(migration.sql, number=migration.number, origin=f"{one.name} {migration.label}")
    ]


def hazards(sql: str, *, number: int = 0, origin: str = "") -> Iterator[Hazard]:
    """Yield what is not safe in one migration, and not accepted.

    Args:
        sql: its text.
        number: its number in the set, for what `-- workhorse: needs` says.
        origin: names it in errors.

    Raises:
        StartupError: it cannot be read.
    """
    script = read_script(sql, origin=origin)
    # The author knows which code the schema still serves, and that it is not only the newest.
    told = script.needs is not None and script.needs < number
    for statement, dangers in _dangers(script):
        accepted = {acceptance.rule for acceptance in statement.accepts}
        for rule, subject in dangers:
            if rule.name not in accepted and not (rule.told_by_needs and told):
                yield Hazard(statement.line, rule, subject)
        present = {rule.name for rule, _ in dangers}
        for acceptance in statement.accepts:
            if acceptance.rule not in present:
                yield Hazard(acceptance.line, _RULES["accepts_nothing"], acceptance.rule)


def needed_number(migration: Migration, script: Script) -> int:
    """The number of the set that code must know to run on the schema after this migration; 0: any code runs.

    What the author said; else the migration's own, where it takes something away, or breaks old code in another way
    that was not accepted; else 0.
    """
    if script.needs is not None:
        return min(script.needs, migration.number)
    breaks = any(
        rule.takes_away or (rule.breaks_old_code and rule.name not in {one.rule for one in statement.accepts})
        for statement, dangers in _dangers(script)
        for rule, _ in dangers
    )
    return migration.number if breaks else 0


def _dangers(script: Script) -> Iterator[tuple[Statement, list[tuple[Rule, str]]]]:
    """Each statement with all that is not safe in it, accepted or not."""
    file = _File(alone=script.alone)
    for statement in script.statements:
        found = dict.fromkeys(file.look(statement))
        yield statement, [(_RULES[name], subject) for name, subject in found]


class _File:
    """What a file has made and altered up to a statement."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._made: set[str] = set()
        self._altered: set[str] = set()
        self._added_constraints: set[str] = set()

    def look(self, statement: Statement) -> Iterator[tuple[str, str]]:
        """The hazards of the next statement, and what each is about."""
        reader = Reader(statement.tokens)
        if statement.controls_transaction:
            yield "transaction", statement.tokens[0].text
        elif not self._alone and statement.lone() is not None:
            yield "needs_no_transaction", " ".join(token.text for token in statement.tokens[:3])
        elif reader.take("create"):
            yield from self._create(reader)
        elif reader.take("alter"):
            yield from self._alter(reader)
        elif reader.take("drop"):
            yield from self._drop(reader)
        else:
            yield from self._other(reader, statement)

    def _is_new(self, name: str) -> bool:
        bare = name.rpartition(".")[2]
        # A name with a schema is not the one of another schema; without, it may be.
        return name in self._made or ("." not in name and any(made.rpartition(".")[2] == bare for made in self._made))

    def _create(self, reader: Reader) -> Iterator[tuple[str, str]]:
        replaces = reader.take("or", "replace")
        while reader.take_any(
            "global", "local", "temporary", "temp", "unlogged", "materialized", "recursive", "foreign"
        ):
            pass
        unique = reader.take("unique")
        if reader.take("index"):
            concurrently = reader.take("concurrently")
            sure = not reader.take("if", "not", "exists")
            name = "" if reader.at("on") else reader.name()
            reader.skip_past("on")
            reader.take("only")
            table = reader.name()
            if not concurrently and not self._is_new(table):
                yield "index_locks", f"{'unique index' if unique else 'index'} {name} on {table}"
            if name and sure:
                # An index lives in the schema of its table.
                schema = table.rpartition(".")[0]
                self._made.add(f"{schema}.{name}" if schema else name)
            return
        kind = reader.word()
        if kind not in _MADE:
            return
        reader.advance()
        sure = not reader.take("if", "not", "exists") and not replaces
        name = reader.name()
        if kind == "table" and reader.take("partition", "of"):
            parent = reader.name()
            if not self._is_new(parent):
                yield "partition", f"{name} of {parent}"
        if sure:
            self._made.add(name)

    def _drop(self, reader: Reader) -> Iterator[tuple[str, str]]:
        kind = reader.word()
        if kind == "index":
            reader.advance()
            concurrently = reader.take("concurrently")
            reader.take("if", "exists")
            for name in reader.names():
                if not concurrently and not self._is_new(name):
                    yield "drop_index_locks", name
        elif kind in _OBJECTS:
            reader.advance()
            reader.take_any("view", "table", "by")
            reader.take("if", "exists")
            for name in reader.names():
                if not self._is_new(name):
                    yield "drop_table", f"{kind} {name}"

    def _alter(self, reader: Reader) -> Iterator[tuple[str, str]]:
        kind = reader.word()
        reader.advance()
        if kind in {"materialized", "foreign"}:
            reader.take_any("view", "table")
        reader.take("if", "exists")
        reader.take("only")
        name = reader.name()
        if kind == "index" or not name or self._is_new(name):
            return
        if kind != "table":
            if any(reader.rest_has(*words) for words in (("rename",), ("set", "schema"))):
                yield "rename", f"{kind} {name}"
            if kind == "type" and reader.rest_has("drop", "attribute"):
                yield "drop_column", name
            if (
                kind == "domain"
                and (reader.at("add") or reader.take("set", "not"))
                and not reader.rest_has("not", "valid")
            ):
                yield "constraint_scans", f"domain {name}"
            return
        if not self._alone:
            self._altered.add(name)
            if len(self._altered) > 1:
                yield "many_tables", " and ".join(sorted(self._altered))
        for action in items(reader.rest()):
            change = Reader(action)
            if change.take("add"):
                yield from self._add(name, change)
            elif change.take("alter"):
                yield from _alter_column(name, change)
            else:
                yield from self._change(name, change)

    def _add(self, table: str, reader: Reader) -> Iterator[tuple[str, str]]:
        if reader.at_any("constraint", "primary", "unique", "foreign", "check", "exclude", "not"):
            yield from self._add_constraint(table, reader)
        else:
            reader.take("column")
            reader.take("if", "not", "exists")
            yield from _add_column(table, reader)

    def _change(self, table: str, reader: Reader) -> Iterator[tuple[str, str]]:
        """The rarer actions of ALTER TABLE on an existing table."""
        if reader.take("drop"):
            if not reader.at("constraint"):
                reader.take("column")
                reader.take("if", "exists")
                yield "drop_column", f"{table}.{reader.name()}"
        elif reader.at("rename") or reader.take("set", "schema"):
            if not reader.take("rename", "constraint"):
                yield "rename", table
        elif reader.take("validate", "constraint"):
            name = reader.name()
            if not self._alone and f"{table} {name}" in self._added_constraints:
                yield "validate_with_add", f"{table}.{name}"
        elif reader.take("detach", "partition"):
            if not reader.rest_has("finalize"):
                yield "partition", table
        elif reader.take("set") and reader.at_any("logged", "unlogged", "tablespace", "access"):
            yield "rewrite", table

    def _add_constraint(self, table: str, reader: Reader) -> Iterator[tuple[str, str]]:
        name = ""
        if reader.take("constraint"):
            name = reader.name()
        subject = f"{table}.{name}" if name else table
        later = reader.rest_has("not", "valid")
        if later:
            self._added_constraints.add(f"{table} {name}")
        elif reader.at_any("foreign", "check"):
            yield "constraint_scans", subject
        elif reader.at("not"):
            yield "set_not_null", subject
        elif reader.at_any("unique", "primary", "exclude") and not reader.rest_has("using", "index"):
            yield "constraint_builds", subject
        if reader.at("primary") and reader.rest_has("using", "index"):
            # It makes its columns NOT NULL, for which all rows are read.
            yield "set_not_null", subject

    def _other(self, reader: Reader, statement: Statement) -> Iterator[tuple[str, str]]:
        if reader.at("with"):
            reader.skip_to("update", "delete")
        if reader.at_any("lock", "truncate"):
            rule = "lock_table" if reader.take("lock") else "truncate"
            reader.take_any("truncate")
            reader.take("table")
            reader.take("only")
            yield from ((rule, name) for name in reader.names() if not self._is_new(name))
        elif reader.take("update") or reader.take("delete", "from"):
            reader.take("only")
            name = reader.name()
            if not reader.rest_has("where") and not self._is_new(name):
                yield "whole_table", name
        elif reader.take("refresh", "materialized", "view"):
            concurrently = reader.take("concurrently")
            name = reader.name()
            if not concurrently and not self._is_new(name):
                yield "refresh", name
        elif reader.at_any("cluster", "reindex") or (reader.at("vacuum") and _full(statement)):
            yield "rewrite", " ".join(token.text for token in statement.tokens[:4])
        elif reader.at("do"):
            yield "do_block", "DO"


def _full(vacuum: Statement) -> bool:
    """Whether a VACUUM is FULL, in the old notation or in parentheses."""
    return any(token.kind == "word" and token.value == "full" for token in vacuum.tokens)


def _alter_column(table: str, reader: Reader) -> Iterator[tuple[str, str]]:
    reader.take("column")
    column = f"{table}.{reader.name()}"
    if reader.take("type") or reader.take("set", "data", "type"):
        yield "change_type", column
    elif reader.take("set", "not", "null"):
        yield "set_not_null", column


def _add_column(table: str, reader: Reader) -> Iterator[tuple[str, str]]:
    column = f"{table}.{reader.name()}"
    filled = reader.rest_has("default") or reader.rest_has("generated")
    if reader.rest_has("not", "null") and not filled:
        yield "add_not_null", column
    if reader.word() in _SERIAL or reader.rest_has("as", "identity") or reader.rest_has("stored") or _varies(reader):
        yield "add_rewrites", column
    if reader.rest_has("unique") or reader.rest_has("primary", "key"):
        yield "constraint_builds", column
    if reader.rest_has("references"):
        yield "constraint_scans", column
    if reader.rest_has("check"):
        yield "constraint_scans", column


def _varies(reader: Reader) -> bool:
    """Whether the default calls a function that may differ from row to row."""
    default = Reader(reader.rest())
    if not default.skip_past("default"):
        return False
    before = ""
    tokens = default.rest()
    for token, after in itertools.pairwise(tokens):
        if token.kind == "word" and token.value in _AFTER_DEFAULT:
            return False
        calls = token.kind in {"word", "quoted"} and after.text == "("
        # After a cast stands a type, which may have parentheses too: `::numeric(10, 2)`.
        if calls and before not in {"::", "as", "character", "bit"} and token.value not in _STABLE:
            return True
        before = token.text.lower()
    return False
