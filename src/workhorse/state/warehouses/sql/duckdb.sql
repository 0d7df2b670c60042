-- name: prepare
-- The tables of the copying itself, and a table with the columns that every table has.
CREATE SCHEMA IF NOT EXISTS warehouse;
CREATE TABLE IF NOT EXISTS warehouse.positions (
    definition VARCHAR PRIMARY KEY, began BIGINT NOT NULL, number BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS warehouse."{table}" (
    id UUID PRIMARY KEY, type VARCHAR NOT NULL, occurred_at TIMESTAMPTZ NOT NULL, subject VARCHAR
)

-- name: columns
SELECT column_name, data_type FROM information_schema.columns WHERE table_catalog = 'attached' AND table_schema = 'warehouse' AND table_name = ?

-- name: place
SELECT began, number FROM warehouse.positions WHERE definition = ?

-- name: move
INSERT INTO warehouse.positions VALUES (?, ?, ?)
ON CONFLICT (definition) DO UPDATE SET began = excluded.began, number = excluded.number

-- name: known
-- How many of these are there.
SELECT count(*) FROM warehouse."{table}" WHERE id IN (SELECT unnest(?)::UUID)

-- name: clear
DELETE FROM warehouse."{table}"

-- name: forget
DELETE FROM warehouse.positions WHERE definition = ?

-- name: append
INSERT INTO warehouse."{table}" ({names})
SELECT {values} FROM given
ON CONFLICT (id) DO UPDATE SET {updates}

-- name: measure
-- The windows from a time until another, put together into wider ones.
WITH kept AS (
    SELECT *, epoch_us(occurred_at) // 1000000 AS second FROM warehouse."{table}"
), windows AS (
    SELECT *, second - second % {own} AS own FROM kept
), asked AS (
    SELECT *, own - own % {seconds} AS starts FROM windows
     WHERE own * 1000000 >= {since} AND own * 1000000 < {until}{only}
)
SELECT starts, count(*), count(*) FILTER (WHERE {rejected}), count(*) FILTER (WHERE {odd}),
       sum({sum})::VARCHAR, max({sum_scale}),
       min({min})::VARCHAR, arg_min({min_scale}, {min}),
       max({max})::VARCHAR, arg_max({max_scale}, {max}),
       sum({average})::VARCHAR, count({average}), max({average_scale}){by}
  FROM asked
 GROUP BY starts{by}
 ORDER BY starts{by}
 LIMIT {at_most}
