-- name: append_events
-- Append a JSON array of events. The transaction's id, by which the feed finds them, is the column's default.
INSERT INTO workhorse.events (id, type, subject, data, occurred_at, request_id, trace_id, principal)
SELECT id, type, subject, data, occurred_at, request_id, trace_id, principal
  FROM jsonb_to_recordset(%s::jsonb) AS event (
       id uuid, type text, subject text, data jsonb, occurred_at timestamptz,
       request_id text, trace_id text, principal text)

-- name: append_once
-- The same, for who cannot know whether it was done before: what is there already stays as it is.
INSERT INTO workhorse.events (id, type, subject, data, occurred_at, request_id, trace_id, principal)
SELECT id, type, subject, data, occurred_at, request_id, trace_id, principal
  FROM jsonb_to_recordset(%s::jsonb) AS event (
       id uuid, type text, subject text, data jsonb, occurred_at timestamptz,
       request_id text, trace_id text, principal text)
ON CONFLICT (id) DO NOTHING

-- name: prepare_partitions
-- Make the partitions of this month and of the given number of months to come, where they are missing.
SELECT workhorse.prepare_event_partitions(%s::int)

-- name: drop_partitions
-- Drop the whole months before a day (ISO 8601) that every reader has read, those that are named among them (a JSON
-- array). Returns how many they were, and who holds the next one up.
SELECT dropped, held_by
  FROM workhorse.drop_read_event_partitions(
       %s::text::date, ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)))
