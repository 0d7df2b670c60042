-- name: draw
-- The next numbers of a column that the database numbers; nulls where it does not.
SELECT nextval(pg_get_serial_sequence(%s::text, %s::text)) FROM generate_series(1, %s::int)
