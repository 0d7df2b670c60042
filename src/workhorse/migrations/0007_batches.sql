-- Takes the keys of a batch without waiting for any: whoever waited for one would hold up all the others. `busy` are
-- those that somebody else holds, to be tried again; `claimed` those whose request has taken effect before. Two
-- statements, because under READ COMMITTED the second sees what was committed while the first one took the locks.
-- In the order of the locks, so that two batches that share keys never wait for each other elsewhere, each with some.
CREATE FUNCTION workhorse.claim_replies(wanted uuid[], lock_keys bigint[], OUT busy uuid[], OUT claimed uuid[])
LANGUAGE plpgsql AS $$
BEGIN
    SELECT coalesce(array_agg(w.scope) FILTER (WHERE NOT w.taken), '{}') INTO busy
      FROM (SELECT u.scope, pg_try_advisory_xact_lock(u.lock_key) AS taken
              FROM (SELECT scope, lock_key FROM unnest(wanted, lock_keys) AS k (scope, lock_key)
                     ORDER BY lock_key) AS u) AS w;
    SELECT coalesce(array_agg(r.scope), '{}') INTO claimed
      FROM workhorse.replies r
     WHERE r.scope = ANY (wanted) AND NOT r.scope = ANY (busy);
END
$$;
