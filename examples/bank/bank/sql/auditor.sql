-- What the demo's operator does to the journal with every right on the database, and how far the log is by then.

-- name: standing
SELECT
    (SELECT count(*) FROM workhorse.events),
    (SELECT coalesce(max(size), 0) FROM workhorse.audit_checkpoints)

-- name: newest
SELECT id::text, data::text FROM workhorse.events
WHERE type = 'transfer.posted' ORDER BY occurred_at DESC, id DESC LIMIT 1

-- name: edit
UPDATE workhorse.events SET data = jsonb_set(data, '{amount}', '"1000000.00"') WHERE id = %s

-- name: put_back
UPDATE workhorse.events SET data = %s::jsonb WHERE id = %s
