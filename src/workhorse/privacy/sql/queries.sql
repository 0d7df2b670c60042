-- name: find
-- The keys of some subjects. One that this transaction has made may yet be rolled back: its time is the transaction's own.
SELECT subject, wrapped, wrapped_by, made_at = now() FROM workhorse.subject_keys
 WHERE subject IN (SELECT jsonb_array_elements_text(%s::text::jsonb))

-- name: make
-- Of two that make the first key of a subject at once, the second waits for the first, and takes its key. Always in the
-- same order, lest two wait for one another. Returns whose keys were made.
INSERT INTO workhorse.subject_keys (subject, wrapped, wrapped_by)
SELECT key ->> 0, decode(key ->> 1, 'hex'), key ->> 2 FROM jsonb_array_elements(%s::text::jsonb) AS key ORDER BY 1
    ON CONFLICT (subject) DO NOTHING
RETURNING subject

-- name: draw
-- The next numbers of a column that the database numbers; nulls where it does not.
SELECT nextval(pg_get_serial_sequence(%s::text, %s::text)) FROM generate_series(1, %s::int)

-- name: destroy
-- A subject who never had a key is erased too: none is made for them later.
INSERT INTO workhorse.subject_keys AS kept (subject, wrapped, wrapped_by, destroyed_at, reason)
VALUES (%s, NULL, '', now(), %s)
ON CONFLICT (subject) DO UPDATE
   SET wrapped = NULL, destroyed_at = coalesce(kept.destroyed_at, excluded.destroyed_at),
       reason = coalesce(kept.reason, excluded.reason)
RETURNING destroyed_at, reason

-- name: older
-- Keys that an earlier wrapping key wrapped. Who wraps them anew at the same time takes others.
SELECT subject, wrapped, wrapped_by FROM workhorse.subject_keys
 WHERE wrapped IS NOT NULL AND wrapped_by <> %s
 ORDER BY wrapped_by, subject LIMIT %s FOR UPDATE SKIP LOCKED

-- name: rewrap
UPDATE workhorse.subject_keys SET wrapped = %s, wrapped_by = %s WHERE subject = %s AND wrapped IS NOT NULL

-- name: add_consent
INSERT INTO workhorse.consents (subject, purpose, given, version, how) VALUES (%s, %s, %s, %s, %s)
RETURNING recorded_at

-- name: latest_consent
SELECT given, version FROM workhorse.consents WHERE subject = %s AND purpose = %s ORDER BY id DESC LIMIT 1

-- name: consents_of
SELECT to_jsonb(c) - 'id' - 'subject' FROM workhorse.consents AS c WHERE subject = %s ORDER BY id LIMIT 10000

-- name: events_about
-- The events about any of some subjects, or by a caller, in the order of their ids.
SELECT jsonb_build_object('id', id, 'type', type, 'subject', subject, 'occurred_at', occurred_at, 'data', data)
  FROM workhorse.events
 WHERE (subject IN (SELECT jsonb_array_elements_text(%s::jsonb)) OR principal = %s) AND id > %s::uuid
 ORDER BY id LIMIT 5000

-- name: columns_of_text
-- The columns that may hold text, each with the query of its rows in which a pattern is found. It is run without values,
-- so a percent sign stands for itself here; in what it makes, for a place.
SELECT table_schema, table_name, column_name,
       'SELECT ctid::text, ' || name || '::text FROM ' || holder || ' WHERE ' || name || '::text ~ %s'
  FROM (SELECT c.table_schema, c.table_name, c.column_name, c.ordinal_position,
               replace(quote_ident(c.column_name), '%', '%%') AS name,
               replace(quote_ident(c.table_schema) || '.' || quote_ident(c.table_name), '%', '%%') AS holder
          FROM information_schema.columns AS c
          JOIN information_schema.tables AS t USING (table_schema, table_name)
          JOIN pg_class AS p  -- of a partitioned table its partitions, which have the rows
            ON p.oid = (quote_ident(c.table_schema) || '.' || quote_ident(c.table_name))::regclass AND p.relkind = 'r'
         WHERE t.table_type = 'BASE TABLE' AND c.table_schema NOT IN ('pg_catalog', 'information_schema')
           AND c.data_type IN ('text', 'character varying', 'character', 'json', 'jsonb', 'xml', 'ARRAY')) AS found
 ORDER BY table_schema, table_name, ordinal_position
