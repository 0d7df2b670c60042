-- Summaries that measures keep of many values in little space, each of a window and of what it is counted by. All three can
-- be put together with one of other events, in any order, so that a wider window is read from narrower ones.
ALTER TABLE workhorse.measures ADD COLUMN distinct_hashes bigint[];  -- the least hashes of the values, ascending
ALTER TABLE workhorse.measures ADD COLUMN quantiles       jsonb;     -- of each bucket of values, how many there were
ALTER TABLE workhorse.measures ADD COLUMN top             jsonb;     -- {"counts": {value: at least so often}, "dropped": ...}

-- A field as text; null where there is none.
CREATE FUNCTION workhorse.measured_text(field jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(field) <> 'null' THEN field #>> '{}' END
$$;

-- A value as one of 2^64 numbers that are spread evenly, whatever the values are, and stay the same in every version.
CREATE FUNCTION workhorse.measured_hash(field text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || encode(substr(sha256(convert_to(field, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
$$;

-- K minimum values (Bar-Yossef et al. 2002; Beyer et al. 2007): of all hashes the 1,024 least, each once.
CREATE FUNCTION workhorse.least_hashes(hashes bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_agg(hash ORDER BY hash)
      FROM (SELECT DISTINCT hash FROM unnest(hashes) AS hash WHERE hash IS NOT NULL ORDER BY hash LIMIT 1024) AS kept
$$;

-- How many different values there were: as many as there are hashes, as long as none was left out. Then, of 1,024 evenly
-- spread ones, the farthest tells how close they lie.
CREATE FUNCTION workhorse.estimated_distinct(kept bigint, farthest bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN kept < 1024 THEN kept
                ELSE round(1023 / ((farthest::numeric + 9223372036854775808) / 18446744073709551616))::bigint END
$$;

-- DDSketch (Masson et al. 2019) with a relative error of 1 %: the bucket i has the values above g^(i-1) up to g^i, for
-- g = 1.01 / 0.99. Buckets are numbered by their order: from 718 to 23,513, those of negative values below zero.
CREATE FUNCTION workhorse.measured_bucket(value numeric) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value = 0 THEN 0
                ELSE sign(value)::integer
                     * (12000 + ceil(ln(abs(value)::double precision) / ln(1.01::double precision / 0.99)))::integer END
$$;

-- How often each text is there.
CREATE FUNCTION workhorse.counted(texts text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_object_agg(one, often)
      FROM (SELECT one, count(*) AS often FROM unnest(texts) AS one WHERE one IS NOT NULL GROUP BY one) AS counts
$$;

-- Two such counts in one.
CREATE FUNCTION workhorse.added_counts(these jsonb, those jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_object_agg(key, often)
      FROM (SELECT key, sum(value::bigint) AS often
              FROM (SELECT key, value FROM jsonb_each_text(these)
                    UNION ALL SELECT key, value FROM jsonb_each_text(those)) AS them
             GROUP BY key) AS counts
$$;

-- The values of these shares, from 0 to 1, in the same order; null where there was no value.
CREATE FUNCTION workhorse.estimated_quantiles(buckets jsonb, shares double precision[]) RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH counts AS (
        SELECT bucket, sum(often) OVER (ORDER BY bucket) AS up_to, sum(often) OVER () AS total
          FROM (SELECT key::integer AS bucket, value::bigint AS often FROM jsonb_each_text(buckets)) AS each
    )
    SELECT array_agg((
               SELECT CASE WHEN bucket = 0 THEN 0
                           ELSE sign(bucket) * 2 * power(1.01::double precision / 0.99, abs(bucket) - 12000)
                                / (1.01::double precision / 0.99 + 1) END
                 FROM counts
                WHERE up_to > floor(share * (total - 1)::double precision)
                ORDER BY bucket
                LIMIT 1
           ) ORDER BY place)
      FROM unnest(shares) WITH ORDINALITY AS asked (share, place)
$$;

-- Misra-Gries summaries (Misra and Gries 1982; merged as in Agarwal et al. 2012): of more than 256 values the 256 most
-- frequent are kept, each less the count of the next one. So a value was there as often as is kept of it, and at most
-- `dropped` times more.
CREATE FUNCTION workhorse.kept_top(counts jsonb, dropped bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH each AS (
        SELECT key, value::bigint AS often FROM jsonb_each_text(counts)
    ), next AS (
        SELECT coalesce((SELECT often FROM each ORDER BY often DESC OFFSET 256 LIMIT 1), 0) AS often
    )
    SELECT jsonb_build_object(
               'counts', coalesce((SELECT jsonb_object_agg(each.key, each.often - next.often)
                                     FROM each WHERE each.often > next.often), '{}'),
               'dropped', dropped + next.often)
      FROM next
$$;
