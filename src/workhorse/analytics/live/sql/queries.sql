-- name: look
-- What has changed of each measure that is shown, since the revision that is known: one statement for all of them. A
-- measure whose feed has not moved costs a look-up by key. Each measure that is counted has at least one row, whose
-- columns from `starts` on are null if nothing has changed. Figures come as the text that is sent.
WITH asked AS (
    SELECT one.*, floor((extract(epoch FROM now()) - one.span) / one.seconds)::bigint * one.seconds AS since
      FROM jsonb_to_recordset(%s::jsonb) AS one (
           place integer, measure text, version integer, feed text, seconds bigint, span bigint, at_most integer,
           began bigint, given bigint, revision bigint)
), counted AS (
    SELECT asked.*, f.events, (extract(epoch FROM f.began_at) * 1000)::bigint AS begins
      FROM asked JOIN workhorse.feeds f ON f.name = asked.feed
)
SELECT c.place, c.begins, c.events, c.since, changed.starts, changed.by, changed.revision, changed.figures
  FROM counted c
  LEFT JOIN LATERAL (
    SELECT extract(epoch FROM m.starts)::bigint AS starts, m.by::text AS by, m.revision,
           (jsonb_build_object('starts', to_char(m.starts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                               'by', m.by, 'events', m.events, 'rejected', m.rejected)
            || jsonb_strip_nulls(jsonb_build_object(
                   'sum', m.summed::text, 'min', m.least::text, 'max', m.greatest::text,
                   'average', CASE WHEN m.averaged_of > 0 THEN (m.averaged / m.averaged_of)::text END,
                   'distinct', workhorse.estimated_distinct(cardinality(m.distinct_hashes), m.distinct_hashes[1024]),
                   'quantiles', (SELECT jsonb_object_agg(share, value)
                                   FROM unnest(ARRAY[0.5, 0.9, 0.99],
                                               workhorse.estimated_quantiles(m.quantiles, ARRAY[0.5, 0.9, 0.99]))
                                        AS of (share, value)
                                  WHERE m.quantiles IS NOT NULL),
                   'top', (SELECT jsonb_agg(jsonb_build_array(best.key, best.often) ORDER BY best.often DESC, best.key)
                             FROM (SELECT key, value::bigint AS often FROM jsonb_each_text(m.top -> 'counts')
                                    ORDER BY often DESC, key LIMIT 10) AS best),
                   'top_error', (m.top ->> 'dropped')::bigint)))::text AS figures
      FROM workhorse.measures m
     WHERE (c.begins, c.events) IS DISTINCT FROM (c.began, c.given)
       AND m.measure = c.measure AND m.version = c.version AND m.starts >= to_timestamp(c.since)
       AND m.revision > CASE WHEN c.begins = c.began AND c.events >= c.given THEN c.revision ELSE -1 END
     ORDER BY m.starts DESC
     LIMIT c.at_most + 1
  ) changed ON true
