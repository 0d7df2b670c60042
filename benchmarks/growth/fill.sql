-- Fills the tables that grow, in the shape in which the code writes them, straight into the partitions where rows of
-- their age are. Rows come in the order of their time, as they would have come. Their type and status are as long as
-- those of the bank's own, and others, so that its own can be counted afterwards.

-- name: months
-- Partitions of the journal for the two months before this one.
DO $$
DECLARE
    month timestamp;
BEGIN
    FOR ago IN 1..2 LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => ago);
        EXECUTE format('CREATE TABLE workhorse.%I PARTITION OF workhorse.events FOR VALUES FROM (%L) TO (%L)',
            'events_' || to_char(month, 'YYYY_MM'),
            workhorse.first_event_id(month AT TIME ZONE 'UTC'),
            workhorse.first_event_id((month + interval '1 month') AT TIME ZONE 'UTC'));
    END LOOP;
END
$$;

-- name: days
-- Partitions of the history for the two days before this one.
DO $$
DECLARE
    day date;
BEGIN
    FOR ago IN 1..2 LOOP
        day := (now() AT TIME ZONE 'UTC')::date - ago;
        EXECUTE format('CREATE TABLE workhorse.%I PARTITION OF workhorse.finished_jobs FOR VALUES FROM (%L) TO (%L)',
            'finished_jobs_' || to_char(day, 'YYYYMMDD'),
            day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
END
$$;

-- name: events
-- So many events of the month that began so many months ago, evenly over it, but none of the time to come. The ids are
-- of version 7; the transactions are those that this server has had, in their order.
INSERT INTO workhorse.events (id, txid, type, subject, data, occurred_at, request_id, trace_id, principal)
SELECT (substr(replace(workhorse.first_event_id(at)::text, '-', ''), 1, 12) || '7' || lpad(to_hex(number %% 4096), 3, '0')
        || '8' || substr(md5(number::text), 1, 15))::uuid,
    greatest(3, number * pg_current_xact_id()::text::bigint / %(rows)s)::text::xid8, 'transfer.booked', number::text,
    jsonb_build_object('transfer', number, 'debtor', number %% 10000, 'creditor', number %% 9973, 'currency', 'EUR',
        'amount', number %% 500),
    at, md5('request ' || number), md5('trace ' || number), 'https://issuer.example|caller-' || number %% 1000
FROM (
    SELECT number, month.start + (least(month.start + interval '1 month', now()) - month.start) * (number / (%(rows)s + 1.0)) AS at
    FROM generate_series(1, %(rows)s::bigint) AS number
    CROSS JOIN (
        SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => %(months_ago)s)) AT TIME ZONE 'UTC'
    ) AS month (start)
) AS event;

-- name: replies
-- So many replies, evenly over the last four days. Scopes are digests; these can be worked out again from a number.
INSERT INTO workhorse.replies (scope, request_digest, status, headers, body, created_at)
SELECT md5('reply ' || number)::uuid, sha256(number::text::bytea), 200,
    '\x9292c40e636f6e74656e742d6c656e677468c40331373192c40c636f6e74656e742d74797065c4106170706c69636174696f6e2f6a736f6e',
    ('{"id":' || number || ',"debtor":10,"creditor":15,"currency":"EUR","amount":1,"reference":"' || md5(number::text)
        || '","reverses":null,"posted_at":"2026-01-01T00:00:00.000000Z"}')::bytea,
    now() - interval '4 days' * ((%(rows)s - number) / %(rows)s::float8)
FROM generate_series(1, %(rows)s::bigint) AS number;

-- name: finished_jobs
-- So many jobs that were done on the day so many days ago, evenly over it, but none in the time to come.
INSERT INTO workhorse.finished_jobs (id, enqueued_at, started_at, finished_at, worker, outcome, attempt, name, queue, origin)
SELECT (substr(replace(workhorse.first_event_id(at)::text, '-', ''), 1, 12) || '7' || lpad(to_hex(number %% 4096), 3, '0')
        || '8' || substr(md5(number::text), 1, 15))::uuid,
    at - interval '5 ms', at - interval '2 ms', at, md5('worker')::uuid, 'done', 1, 'write_advices', 'default',
    json_build_object('trace_id', md5('trace ' || number), 'principal', 'https://issuer.example|caller-' || number %% 1000)
FROM (
    SELECT number, day.start + (least(day.start + interval '1 day', now()) - day.start) * (number / (%(rows)s + 1.0)) AS at
    FROM generate_series(1, %(rows)s::bigint) AS number
    CROSS JOIN (
        SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => %(days_ago)s)) AT TIME ZONE 'UTC'
    ) AS day (start)
) AS job;

-- name: counted
-- The rows of each.
SELECT (SELECT count(*) FROM workhorse.events), (SELECT count(*) FROM workhorse.replies),
    (SELECT count(*) FROM workhorse.finished_jobs);

-- name: bytes
-- The whole database on disk.
SELECT pg_database_size(current_database());

-- name: delete_events
-- Deletes a month of the journal row by row: what partitions spare.
DELETE FROM workhorse.events
WHERE id >= workhorse.first_event_id((date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => %(months_ago)s)) AT TIME ZONE 'UTC')
    AND id < workhorse.first_event_id((date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => %(months_ago)s - 1)) AT TIME ZONE 'UTC');

-- name: delete_finished_jobs
-- Deletes a day of the history row by row.
DELETE FROM workhorse.finished_jobs
WHERE finished_at >= (date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => %(days_ago)s)) AT TIME ZONE 'UTC'
    AND finished_at < (date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => %(days_ago)s - 1)) AT TIME ZONE 'UTC';
