-- name: turn
-- Wait until no other unit replaces rows of this table: two that deleted the same rows would both insert theirs.
SELECT pg_advisory_xact_lock(hashtextextended('workhorse frame ' || CAST(%s AS text), 0))
