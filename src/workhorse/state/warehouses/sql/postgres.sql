-- name: prepare
-- The tables of the copying itself.
CREATE SCHEMA IF NOT EXISTS warehouse;
CREATE TABLE IF NOT EXISTS warehouse.positions (
    definition text        NOT NULL PRIMARY KEY,
    began      bigint      NOT NULL,
    number     bigint      NOT NULL,
    moved_at   timestamptz NOT NULL DEFAULT now()
)

-- name: making
-- One process at a time makes what is missing.
SELECT pg_advisory_xact_lock(hashtextextended('workhorse.warehouse', 0))

-- name: create
-- A table, with the columns that every table has.
CREATE TABLE IF NOT EXISTS warehouse."{table}" (
    id          uuid        NOT NULL PRIMARY KEY,
    type        text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    subject     text
);
CREATE INDEX IF NOT EXISTS "{table}_occurred_at" ON warehouse."{table}" (occurred_at)

-- name: columns
-- The columns that a table has, with their types.
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'warehouse' AND table_name = %s

-- name: first_place
-- A definition begins.
INSERT INTO warehouse.positions (definition, began, number) VALUES (%s, 0, 0) ON CONFLICT DO NOTHING

-- name: place
-- How far the copying has come. Locked: of two processes with the same page, the second sees what the first has done.
SELECT began, number FROM warehouse.positions WHERE definition = %s FOR UPDATE

-- name: move
UPDATE warehouse.positions SET began = %s, number = %s, moved_at = now() WHERE definition = %s

-- name: known
-- How many of these are there.
SELECT count(*) FROM warehouse."{table}" WHERE id = ANY (%s)

-- name: clear
DELETE FROM warehouse."{table}"

-- name: forget
DELETE FROM warehouse.positions WHERE definition = %s

-- name: append
-- Numbers come as text, so that nothing makes doubles of them.
INSERT INTO warehouse."{table}" ({names})
SELECT {values} FROM jsonb_to_recordset(%s::jsonb) AS given ({given})
ON CONFLICT (id) DO UPDATE SET {updates}

-- name: measure
-- The windows from a time until another, put together into wider ones.
WITH kept AS (
    SELECT *, floor(extract(epoch FROM occurred_at))::bigint AS second
      FROM warehouse."{table}"
     WHERE occurred_at >= timestamptz '1970-01-01 00:00:00+00' + {since} * interval '1 microsecond'
       AND occurred_at < timestamptz '1970-01-01 00:00:00+00' + ({until} + {own} * 1000000::bigint) * interval '1 microsecond'
), windows AS (
    SELECT *, second - second %% {own} AS own FROM kept
), asked AS (
    SELECT *, own - own %% {seconds} AS starts FROM windows
     WHERE own * 1000000 >= {since} AND own * 1000000 < {until}{only}
)
SELECT starts, count(*), count(*) FILTER (WHERE {rejected}), count(*) FILTER (WHERE {odd}),
       sum({sum}), min({min}), max({max}),
       CASE WHEN count({average}) > 0 THEN sum({average}) / count({average}) END{by}
  FROM asked
 GROUP BY starts{by}
 ORDER BY starts{by}
 LIMIT {at_most}
