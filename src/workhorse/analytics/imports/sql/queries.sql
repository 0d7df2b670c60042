-- name: columns
-- The columns of a table that a file may fill, with the base types of domains.
SELECT a.attname::text,
       t.typname::text,
       CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE d.typtypmod END,
       a.attnotnull,
       a.atthasdef OR a.attidentity <> '',
       a.attgenerated <> '' OR a.attidentity = 'a',
       (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_enum e WHERE e.enumtypid = t.oid)
  FROM pg_attribute a
  JOIN pg_type d ON d.oid = a.atttypid
  JOIN pg_type t ON t.oid = CASE WHEN d.typtype = 'd' THEN d.typbasetype ELSE d.oid END
 WHERE a.attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum

-- name: begin
-- Note a file, unless it is noted.
INSERT INTO workhorse.imports (target, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: standing
-- How far a file has come.
SELECT rows_read, rows_written, done FROM workhorse.imports WHERE target = $1 AND digest = $2

-- name: move
-- Note rows that are written in this transaction. No row comes back if another importer has moved on meanwhile.
UPDATE workhorse.imports
   SET rows_read = $3::bigint, rows_written = rows_written + $4::bigint, done = $5::boolean, moved_at = now()
 WHERE target = $1 AND digest = $2 AND rows_read = $6::bigint AND NOT done
RETURNING rows_written
