-- name: fold
-- Count a page of events. Numbers are read by the database from the events' own text: a driver would make doubles of them.
-- A number may be a JSON number or the text of one, as amounts of money often are.
WITH page AS (
    SELECT e.data, to_timestamp(floor(extract(epoch FROM e.occurred_at) / %(seconds)s) * %(seconds)s) AS starts
      FROM workhorse.events e
     WHERE e.id = ANY (%(ids)s::uuid[])
), read AS (
    SELECT starts,
           (SELECT coalesce(jsonb_object_agg(field.name, page.data #> field.path::text[]), '{}')
              FROM unnest(%(names)s::text[], %(paths)s::text[]) AS field (name, path)) AS by,
           workhorse.measured_number(page.data #> %(sum)s::text[]) AS summed,
           workhorse.measured_number(page.data #> %(min)s::text[]) AS least,
           workhorse.measured_number(page.data #> %(max)s::text[]) AS greatest,
           workhorse.measured_number(page.data #> %(average)s::text[]) AS averaged
      FROM page
), counted AS (
    SELECT starts, by, count(*) AS events,
           count(*) FILTER (WHERE (%(sum)s::text[] IS NOT NULL AND summed IS NULL)
                               OR (%(min)s::text[] IS NOT NULL AND least IS NULL)
                               OR (%(max)s::text[] IS NOT NULL AND greatest IS NULL)
                               OR (%(average)s::text[] IS NOT NULL AND averaged IS NULL)) AS rejected,
           sum(summed) AS summed, min(least) AS least, max(greatest) AS greatest,
           sum(averaged) AS averaged, count(averaged) AS averaged_of
      FROM read
     GROUP BY starts, by
)
INSERT INTO workhorse.measures AS kept
       (measure, version, starts, by, events, rejected, summed, least, greatest, averaged, averaged_of)
SELECT %(measure)s, %(version)s, starts, by, events, rejected, summed, least, greatest, averaged, averaged_of
  FROM counted
ON CONFLICT (measure, version, starts, by) DO UPDATE
   SET events = kept.events + excluded.events,
       rejected = kept.rejected + excluded.rejected,
       summed = CASE WHEN kept.summed IS NULL THEN excluded.summed ELSE kept.summed + coalesce(excluded.summed, 0) END,
       least = least(kept.least, excluded.least),
       greatest = greatest(kept.greatest, excluded.greatest),
       averaged = CASE WHEN kept.averaged IS NULL THEN excluded.averaged
                       ELSE kept.averaged + coalesce(excluded.averaged, 0) END,
       averaged_of = kept.averaged_of + excluded.averaged_of

-- name: read
-- The windows from a time until another, put together into wider ones, and over what is not asked for apart.
WITH asked AS (
    SELECT to_timestamp(floor(extract(epoch FROM starts) / %(seconds)s) * %(seconds)s) AS starts,
           (SELECT coalesce(jsonb_object_agg(name, m.by -> name), '{}') FROM unnest(%(names)s::text[]) AS name) AS by,
           events, rejected, summed, least, greatest, averaged, averaged_of
      FROM workhorse.measures m
     WHERE measure = %(measure)s AND version = %(version)s AND starts >= %(since)s AND starts < %(until)s
       AND m.by @> %(only)s::jsonb
)
SELECT starts, by, sum(events)::bigint, sum(rejected)::bigint, sum(summed), min(least), max(greatest),
       CASE WHEN sum(averaged_of) > 0 THEN sum(averaged) / sum(averaged_of) END
  FROM asked
 GROUP BY starts, by
 ORDER BY starts, by
 LIMIT %(at_most)s

-- name: forget_rows
DELETE FROM workhorse.measures WHERE measure = %s AND version = %s

-- name: forget_feed
DELETE FROM workhorse.feeds WHERE name = %s
