-- How far each reader of the journal has come.
-- `seen` is a snapshot of which every event was read. While the events between it and a later snapshot are read in pages,
-- that one is `reading`, and the last two columns say where the next page begins.
CREATE TABLE workhorse.feeds (
    name        text        NOT NULL,
    cluster     bigint      NOT NULL,            -- system_identifier: in another cluster a snapshot means nothing
    seen        pg_snapshot NOT NULL,
    reading     pg_snapshot,
    page_txid   xid8,
    page_id     uuid,
    events      bigint      NOT NULL DEFAULT 0,  -- given to the reader so far
    version     text        NOT NULL,            -- of the reader: it begins anew with another one
    moved_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT feeds_pkey PRIMARY KEY (name)
);
