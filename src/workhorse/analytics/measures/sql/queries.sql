-- name: fold
-- Count a page of events. Numbers are read by the database from the events' own text: a driver would make doubles of them.
-- A number may be a JSON number or the text of one, as amounts of money often are. Events of windows that are not kept any
-- more are left out.
WITH page AS (
    SELECT e.data, to_timestamp(floor(extract(epoch FROM e.occurred_at) / %(seconds)s) * %(seconds)s) AS starts
      FROM workhorse.events e
     WHERE e.id = ANY (%(ids)s::uuid[])
       AND (%(keep)s::bigint IS NULL
            OR e.occurred_at >= to_timestamp(floor((extract(epoch FROM now()) - %(keep)s) / %(seconds)s) * %(seconds)s))
), read AS (
    SELECT starts,
           (SELECT coalesce(jsonb_object_agg(field.name, page.data #> field.path::text[]), '{}')
              FROM unnest(%(names)s::text[], %(paths)s::text[]) AS field (name, path)) AS by,
           workhorse.measured_number(page.data #> %(sum)s::text[]) AS summed,
           workhorse.measured_number(page.data #> %(min)s::text[]) AS least,
           workhorse.measured_number(page.data #> %(max)s::text[]) AS greatest,
           workhorse.measured_number(page.data #> %(average)s::text[]) AS averaged,
           workhorse.measured_number(page.data #> %(quantiles)s::text[]) AS ranked,
           workhorse.measured_text(page.data #> %(distinct)s::text[]) AS told_apart,
           left(workhorse.measured_text(page.data #> %(top)s::text[]), 200) AS named
      FROM page
), counted AS (
    SELECT starts, by, count(*) AS events,
           count(*) FILTER (WHERE (%(sum)s::text[] IS NOT NULL AND summed IS NULL)
                               OR (%(min)s::text[] IS NOT NULL AND least IS NULL)
                               OR (%(max)s::text[] IS NOT NULL AND greatest IS NULL)
                               OR (%(average)s::text[] IS NOT NULL AND averaged IS NULL)
                               OR (%(quantiles)s::text[] IS NOT NULL AND ranked IS NULL)) AS rejected,
           sum(summed) AS summed, min(least) AS least, max(greatest) AS greatest,
           sum(averaged) AS averaged, count(averaged) AS averaged_of,
           CASE WHEN %(distinct)s::text[] IS NOT NULL
                THEN workhorse.least_hashes(array_agg(workhorse.measured_hash(told_apart))) END AS distinct_hashes,
           CASE WHEN %(quantiles)s::text[] IS NOT NULL
                THEN workhorse.counted(array_agg(workhorse.measured_bucket(ranked)::text)) END AS quantiles,
           CASE WHEN %(top)s::text[] IS NOT NULL
                THEN workhorse.kept_top(workhorse.counted(array_agg(named)), 0) END AS top
      FROM read
     GROUP BY starts, by
)
INSERT INTO workhorse.measures AS kept
       (measure, version, starts, by, events, rejected, summed, least, greatest, averaged, averaged_of,
        distinct_hashes, quantiles, top)
SELECT %(measure)s, %(version)s, starts, by, events, rejected, summed, least, greatest, averaged, averaged_of,
       distinct_hashes, quantiles, top
  FROM counted
ON CONFLICT (measure, version, starts, by) DO UPDATE
   SET events = kept.events + excluded.events,
       rejected = kept.rejected + excluded.rejected,
       summed = CASE WHEN kept.summed IS NULL THEN excluded.summed ELSE kept.summed + coalesce(excluded.summed, 0) END,
       least = least(kept.least, excluded.least),
       greatest = greatest(kept.greatest, excluded.greatest),
       averaged = CASE WHEN kept.averaged IS NULL THEN excluded.averaged
                       ELSE kept.averaged + coalesce(excluded.averaged, 0) END,
       averaged_of = kept.averaged_of + excluded.averaged_of,
       distinct_hashes = CASE WHEN excluded.distinct_hashes IS NULL THEN kept.distinct_hashes
                              ELSE workhorse.least_hashes(kept.distinct_hashes || excluded.distinct_hashes) END,
       quantiles = CASE WHEN excluded.quantiles IS NULL THEN kept.quantiles
                        ELSE workhorse.added_counts(kept.quantiles, excluded.quantiles) END,
       top = CASE WHEN excluded.top IS NULL THEN kept.top
                  WHEN kept.top IS NULL THEN excluded.top
                  ELSE workhorse.kept_top(
                           workhorse.added_counts(kept.top -> 'counts', excluded.top -> 'counts'),
                           (kept.top ->> 'dropped')::bigint + (excluded.top ->> 'dropped')::bigint) END

-- name: drop_old
-- Delete windows that are not kept any more, a bounded number at a time, and tell how many events of a page were left out
-- because theirs are not: by the same clock as `fold`, that of the transaction.
WITH kept AS MATERIALIZED (
    SELECT to_timestamp(floor((extract(epoch FROM now()) - %(keep)s) / %(seconds)s) * %(seconds)s) AS since
), dropped AS (
    DELETE FROM workhorse.measures m
     USING (SELECT starts, by FROM workhorse.measures
             WHERE measure = %(measure)s AND version = %(version)s AND starts < (SELECT since FROM kept)
             ORDER BY starts LIMIT 1000) AS old
     WHERE m.measure = %(measure)s AND m.version = %(version)s AND m.starts = old.starts AND m.by = old.by
)
SELECT count(*) FROM unnest(%(times)s::timestamptz[]) AS occurred_at WHERE occurred_at < (SELECT since FROM kept)

-- name: read
-- The windows from a time until another, put together into wider ones, and over what is not asked for apart.
WITH asked AS (
    SELECT to_timestamp(floor(extract(epoch FROM starts) / %(seconds)s) * %(seconds)s) AS starts,
           CASE WHEN %(whole)s THEN m.by
                ELSE (SELECT coalesce(jsonb_object_agg(name, m.by -> name), '{}') FROM unnest(%(names)s::text[]) AS name)
           END AS by,
           events, rejected, summed, least, greatest, averaged, averaged_of
      FROM workhorse.measures m
     WHERE measure = %(measure)s AND version = %(version)s AND starts >= %(since)s AND starts < %(until)s
       AND (%(keep)s::bigint IS NULL
            OR starts >= to_timestamp(floor((extract(epoch FROM now()) - %(keep)s) / %(own)s) * %(own)s))
       AND m.by @> %(only)s::jsonb
)
SELECT starts, by, sum(events)::bigint, sum(rejected)::bigint, sum(summed), min(least), max(greatest),
       CASE WHEN sum(averaged_of) > 0 THEN sum(averaged) / sum(averaged_of) END
  FROM asked
 GROUP BY starts, by
 ORDER BY starts, by
 LIMIT %(at_most)s

-- name: read_sketches
-- The same windows' summaries, put together alike: how many different values, the values at the shares that are asked for,
-- and the most frequent ones. Rows are numbered, since sorting by a number is much cheaper than by what they are told apart
-- by; and what is one window alone is taken as it stands: its hashes are ascending, and nothing has to be put together.
WITH asked AS MATERIALIZED (
    SELECT dense_rank() OVER (ORDER BY starts, by) AS number,
           count(*) OVER (PARTITION BY starts, by) AS together,
           distinct_hashes, quantiles, top
      FROM (SELECT to_timestamp(floor(extract(epoch FROM starts) / %(seconds)s) * %(seconds)s) AS starts,
                   CASE WHEN %(whole)s THEN m.by
                        ELSE (SELECT coalesce(jsonb_object_agg(name, m.by -> name), '{}')
                                FROM unnest(%(names)s::text[]) AS name)
                   END AS by,
                   distinct_hashes, quantiles, top
              FROM workhorse.measures m
             WHERE measure = %(measure)s AND version = %(version)s AND starts >= %(since)s AND starts < %(until)s
               AND (%(keep)s::bigint IS NULL
                    OR starts >= to_timestamp(floor((extract(epoch FROM now()) - %(keep)s) / %(own)s) * %(own)s))
               AND m.by @> %(only)s::jsonb) AS windows
), rows AS MATERIALIZED (
    SELECT number, sum((top ->> 'dropped')::bigint)::bigint AS dropped
      FROM asked WHERE number <= %(at_most)s GROUP BY number
), hashes AS MATERIALIZED (
    SELECT number, cardinality(distinct_hashes) AS kept, distinct_hashes[cardinality(distinct_hashes)] AS farthest
      FROM asked WHERE together = 1
    UNION ALL
    SELECT number, count(*), max(hash)
      FROM (SELECT number, hash, row_number() OVER (PARTITION BY number ORDER BY hash) AS place
              FROM (SELECT DISTINCT number, hash FROM asked, unnest(distinct_hashes) AS hash
                     WHERE together > 1) AS each) AS ranked
     WHERE place <= 1024
     GROUP BY number
), buckets AS MATERIALIZED (
    SELECT number, quantiles AS counts FROM asked WHERE together = 1
    UNION ALL
    SELECT number, jsonb_object_agg(key, often)
      FROM (SELECT number, key, sum(value::bigint) AS often
              FROM asked, jsonb_each_text(quantiles) WHERE together > 1 GROUP BY number, key) AS each
     GROUP BY number
), named AS MATERIALIZED (
    SELECT number,
           (SELECT jsonb_agg(jsonb_build_array(key, often) ORDER BY often DESC, key)
              FROM (SELECT key, value::bigint AS often FROM jsonb_each_text(asked.top -> 'counts')
                     ORDER BY often DESC, key LIMIT %(best)s) AS each) AS counts
      FROM asked WHERE together = 1
    UNION ALL
    SELECT number, jsonb_agg(jsonb_build_array(key, often) ORDER BY often DESC, key)
      FROM (SELECT number, key, sum(value::bigint) AS often,
                   row_number() OVER (PARTITION BY number ORDER BY sum(value::bigint) DESC, key) AS place
              FROM asked, jsonb_each_text(top -> 'counts') WHERE together > 1 GROUP BY number, key) AS each
     WHERE place <= %(best)s
     GROUP BY number
)
SELECT workhorse.estimated_distinct(coalesce(hashes.kept, 0), hashes.farthest), coalesce(hashes.kept, 0) >= 1024,
       workhorse.estimated_quantiles(buckets.counts, %(shares)s), coalesce(named.counts, '[]'), rows.dropped
  FROM rows
  LEFT JOIN hashes USING (number)
  LEFT JOIN buckets USING (number)
  LEFT JOIN named USING (number)
 ORDER BY rows.number

-- name: forget_rows
-- Those of its wider windows, too, which are named after it: `revenue@86400`.
DELETE FROM workhorse.measures WHERE split_part(measure, '@', 1) = %s AND version = %s

-- name: forget_feed
DELETE FROM workhorse.feeds WHERE name = %s

-- name: note_definition
-- What a version counts, unless it is noted already.
INSERT INTO workhorse.measure_definitions (measure, version, digest, definition) VALUES (%s, %s, %s, %s::jsonb)
ON CONFLICT (measure, version) DO NOTHING

-- name: noted_definition
SELECT digest, definition FROM workhorse.measure_definitions WHERE measure = %s AND version = %s

-- name: forget_definition
DELETE FROM workhorse.measure_definitions WHERE measure = %s AND version = %s
