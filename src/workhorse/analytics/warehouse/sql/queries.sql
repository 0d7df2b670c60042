-- name: values
-- The fields of a page of events as text, and those that are not of their column's kind as they are. They are read here
-- from the events' own text, since a driver would make doubles of numbers.
SELECT e.id, e.type, e.subject, e.occurred_at,
       array_agg(CASE c.kind
                      WHEN 'number' THEN workhorse.measured_number(v.field)::text
                      WHEN 'text' THEN CASE WHEN v.kind = 'string' THEN v.field #>> '{}' END
                      ELSE CASE v.kind WHEN 'null' THEN NULL
                                       WHEN 'number' THEN trim_scale((v.field #>> '{}')::numeric)::text
                                       ELSE v.field::text END END ORDER BY c.number),
       array_agg(CASE WHEN c.kind = 'text' AND v.kind NOT IN ('string', 'null') THEN v.field::text END ORDER BY c.number)
  FROM workhorse.events e
 CROSS JOIN unnest(%(kinds)s::text[], %(paths)s::text[]) WITH ORDINALITY AS c (kind, path, number)
 CROSS JOIN LATERAL (SELECT e.data #> c.path::text[] AS field, jsonb_typeof(e.data #> c.path::text[]) AS kind) v
 WHERE e.id = ANY (%(ids)s::uuid[])
 GROUP BY e.id

-- name: waiting
-- The oldest event that a feed has not come to, of the first ten thousand of all types, and the time.
SELECT extract(epoch FROM clock_timestamp() - min(w.occurred_at))::float8
  FROM workhorse.feeds f
 CROSS JOIN LATERAL (
    SELECT e.occurred_at, e.type FROM workhorse.events e
     WHERE e.txid >= coalesce(f.page_txid, pg_snapshot_xmin(f.seen)) AND NOT pg_visible_in_snapshot(e.txid, f.seen)
       AND (f.page_id IS NULL OR e.txid > f.page_txid OR e.id > f.page_id
            OR NOT pg_visible_in_snapshot(e.txid, f.reading))
     ORDER BY e.txid, e.id LIMIT 10000) w
 WHERE f.name = %s AND w.type ~ %s
