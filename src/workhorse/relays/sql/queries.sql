-- name: know
-- Note an endpoint, if it is new.
INSERT INTO workhorse.webhook_endpoints (name) VALUES (%s) ON CONFLICT DO NOTHING

-- name: enqueue
-- Note what is to be delivered of a page of events: in their order, so that the ids of a lane are too.
INSERT INTO workhorse.webhook_deliveries (endpoint, event_id, lane, body)
SELECT %s, d.event_id, d.lane, d.body
  FROM ROWS FROM (jsonb_to_recordset(%s::jsonb) AS (event_id uuid, lane text, body text))
       WITH ORDINALITY AS d (event_id, lane, body, number)
 ORDER BY d.number
ON CONFLICT (endpoint, event_id) DO NOTHING

-- name: take
-- Take deliveries that are due, and put them off until this attempt must have ended: whoever is killed meanwhile leaves
-- them to others. Of a lane only the first, so that it is in order.
WITH due AS (
    SELECT d.id
      FROM workhorse.webhook_deliveries d
      JOIN workhorse.webhook_endpoints e ON e.name = d.endpoint AND e.disabled_at IS NULL
     WHERE d.endpoint = %s AND d.dead_at IS NULL AND d.due_at <= now()
       AND (d.lane IS NULL OR NOT EXISTS (
            SELECT FROM workhorse.webhook_deliveries o
             WHERE o.endpoint = d.endpoint AND o.lane = d.lane AND o.id < d.id AND o.dead_at IS NULL))
     ORDER BY d.due_at, d.id
     LIMIT %s::int
       FOR UPDATE OF d SKIP LOCKED)
UPDATE workhorse.webhook_deliveries d
   SET attempts = d.attempts + 1, due_at = now() + %s::text::float8 * interval '1 second'
  FROM due
 WHERE d.id = due.id
RETURNING d.id, d.event_id, d.body, d.attempts, d.lane IS NOT NULL

-- name: forget
-- It was taken. Only if nobody else has taken it up since.
WITH gone AS (
    DELETE FROM workhorse.webhook_deliveries WHERE id = %s AND attempts = %s RETURNING endpoint)
UPDATE workhorse.webhook_endpoints e SET failing_since = NULL
  FROM gone WHERE e.name = gone.endpoint AND e.failing_since IS NOT NULL

-- name: retry
-- It is tried again. Returns for how many seconds nothing has succeeded.
WITH late AS (
    UPDATE workhorse.webhook_deliveries
       SET due_at = now() + %s::text::float8 * interval '1 second', last_error = %s
     WHERE id = %s AND attempts = %s
    RETURNING endpoint)
UPDATE workhorse.webhook_endpoints e SET failing_since = coalesce(e.failing_since, now())
  FROM late WHERE e.name = late.endpoint
RETURNING extract(epoch FROM now() - e.failing_since)::bigint

-- name: bury
-- It is a dead letter. Returns for how many seconds nothing has succeeded.
WITH dead AS (
    UPDATE workhorse.webhook_deliveries SET dead_at = now(), last_error = %s WHERE id = %s AND attempts = %s
    RETURNING endpoint)
UPDATE workhorse.webhook_endpoints e SET failing_since = coalesce(e.failing_since, now())
  FROM dead WHERE e.name = dead.endpoint
RETURNING extract(epoch FROM now() - e.failing_since)::bigint

-- name: disable
-- Send nothing more to an endpoint.
UPDATE workhorse.webhook_endpoints SET disabled_at = now(), disabled_reason = %s WHERE name = %s AND disabled_at IS NULL

-- name: enable
-- Send again, what waits first: each with all its attempts.
WITH anew AS (
    UPDATE workhorse.webhook_deliveries SET attempts = 0, due_at = now() WHERE endpoint = %s AND dead_at IS NULL)
UPDATE workhorse.webhook_endpoints SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL WHERE name = %s

-- name: revive
-- Deliver the dead letters again. Returns one row a letter.
UPDATE workhorse.webhook_deliveries SET dead_at = NULL, attempts = 0, due_at = now()
 WHERE endpoint = %s AND dead_at IS NOT NULL
RETURNING id

-- name: standing
-- How an endpoint stands.
SELECT e.disabled_reason, count(d.id) FILTER (WHERE d.dead_at IS NULL), count(d.id) FILTER (WHERE d.dead_at IS NOT NULL),
       max(d.last_error)
  FROM workhorse.webhook_endpoints e LEFT JOIN workhorse.webhook_deliveries d ON d.endpoint = e.name
 WHERE e.name = %s
 GROUP BY e.disabled_reason
