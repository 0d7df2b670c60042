"""What a migration can do to the version that still serves, by name: why it is not safe, and what to do instead.

Two things are not safe. A statement that holds a lock which readers or writers need for as long as it looks at or
rewrites all rows: they wait, and the service stands still. And one that takes away, or asks for, what the old code does
not know: its statements fail. Locks are those of the PostgreSQL manual: section 13.3, and the notes of ALTER TABLE and
CREATE INDEX.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of statement that is not safe."""

    name: str
    why: str
    mend: str
    breaks_old_code: bool = False
    """Whether code of before the migration may fail on the schema after it, and not only be held up meanwhile."""
    takes_away: bool = False
    """Whether it fails for certain where it uses what is gone: that is not accepted away, only told by `needs`."""
    told_by_needs: bool = False
    """Whether that is all, so that `-- workhorse: needs` of an earlier number says enough."""


_ALONE: Final = "in a file that begins with `-- workhorse: no transaction`"

RULES: Final = (
    Rule(
        "add_not_null",
        "the old code's INSERTs do not name the column, and fail; so does the statement where there are rows",
        "give it a DEFAULT, or add it without NOT NULL",
        breaks_old_code=True,
    ),
    Rule(
        "add_rewrites",
        "every row is written anew under a lock that nobody passes",
        "add the column without it, then set the DEFAULT, and fill the old rows in small transactions",
    ),
    Rule(
        "constraint_scans",
        "all rows are read under a lock that nobody, or for a foreign key no writer, passes",
        "add it NOT VALID, and VALIDATE CONSTRAINT in the next migration",
    ),
    Rule(
        "constraint_builds",
        "its index is built under a lock that nobody passes",
        f"CREATE UNIQUE INDEX CONCURRENTLY {_ALONE}, then ADD CONSTRAINT ... USING INDEX",
    ),
    Rule(
        "validate_with_add",
        "the lock of ADD CONSTRAINT is held while VALIDATE reads all rows, so NOT VALID is of no use",
        "VALIDATE CONSTRAINT in the next migration",
    ),
    Rule(
        "set_not_null",
        "all rows are read under a lock that nobody passes, and the old code may still write nulls",
        "ADD CHECK (... IS NOT NULL) NOT VALID, VALIDATE it in the next migration; then SET NOT NULL reads nothing",
        breaks_old_code=True,
    ),
    Rule(
        "change_type",
        "most changes of a type write every row anew, and the old code gets values that it does not expect",
        "add a column of the new type, write both, fill the old rows, and drop the old one in a later release",
        breaks_old_code=True,
    ),
    Rule(
        "drop_column",
        "the old code still names the column",
        "drop it in a release after the one that stopped using it, and say which that is: `-- workhorse: needs 0007`",
        breaks_old_code=True,
        takes_away=True,
        told_by_needs=True,
    ),
    Rule(
        "drop_table",
        "the old code still uses it",
        "drop it in a release after the one that stopped using it, and say which that is: `-- workhorse: needs 0007`",
        breaks_old_code=True,
        takes_away=True,
        told_by_needs=True,
    ),
    Rule(
        "rename",
        "the old code still uses the old name",
        "add the new one beside it, use both, and drop the old one in a later release",
        breaks_old_code=True,
        takes_away=True,
    ),
    Rule(
        "truncate",
        "it waits for all readers and then locks them out, and the rows are gone",
        "DELETE in small transactions",
        breaks_old_code=True,
    ),
    Rule(
        "index_locks",
        "nobody can write to the table while the index is built",
        f"CREATE INDEX CONCURRENTLY {_ALONE}",
    ),
    Rule(
        "drop_index_locks",
        "it waits for all who use the table, and all others wait behind it",
        f"DROP INDEX CONCURRENTLY {_ALONE}",
    ),
    Rule(
        "needs_no_transaction",
        "this statement runs in no transaction, and fails in one",
        "begin the file with `-- workhorse: no transaction`",
    ),
    Rule(
        "transaction",
        "a file is one transaction already, together with the note that it was applied",
        "take it out",
    ),
    Rule(
        "lock_table",
        "an explicit lock is held to the end of the file",
        "leave it out: each statement takes what it needs",
    ),
    Rule(
        "rewrite",
        "the table or its index is written anew under a lock that nobody passes",
        "REINDEX CONCURRENTLY by hand, or a tool that copies the table beside its use, such as pg_repack",
    ),
    Rule(
        "refresh",
        "nobody can read the view while it is filled",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY, in a job",
    ),
    Rule(
        "partition",
        "it locks everybody out of the whole partitioned table",
        "CREATE TABLE ... (LIKE ...) with a CHECK of its bounds, and ATTACH PARTITION it",
    ),
    Rule(
        "whole_table",
        "all rows stay locked to the end of the file, and the table grows to twice its size",
        f"`-- workhorse: repeat until no rows` before a statement that writes a few, {_ALONE}",
    ),
    Rule(
        "many_tables",
        "the lock on the one table is held while the other one's is waited for",
        "alter one table a file",
    ),
    Rule(
        "do_block",
        "what a DO block does cannot be seen from outside",
        "write plain statements, or accept it and say what it locks and changes",
    ),
    Rule(
        "accepts_nothing",
        "the statement after this comment does no such thing",
        "put the comment before its statement, or take it out",
    ),
)
