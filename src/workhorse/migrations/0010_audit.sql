-- The log over the journal (docs/audit-format.md), as the sealer keeps it. It is written in the transaction in which the
-- sealer's position moves, so that every event stands in it once.
CREATE TABLE workhorse.audit_log (
    origin    text        NOT NULL, -- the log's name, such as 'bank.example/audit'
    size      bigint      NOT NULL, -- entries
    root      bytea       NOT NULL, -- of the tree of so many
    sealed_at timestamptz NOT NULL DEFAULT now(),
    key       text,                 -- the public key that the journal was told of last
    key_event uuid,                 -- by this event, which is sealed before the key signs
    CONSTRAINT audit_log_pkey PRIMARY KEY (origin)
);
-- A database has one log: the sealer's position is one.
CREATE UNIQUE INDEX audit_log_one ON workhorse.audit_log ((true));

-- An entry is what is hashed. An event has one: a position that was set back makes a second, which is refused.
CREATE TABLE workhorse.audit_entries (
    index    bigint NOT NULL,
    event_id uuid   NOT NULL,
    entry    text   NOT NULL,
    CONSTRAINT audit_entries_pkey PRIMARY KEY (index),
    CONSTRAINT audit_entries_event UNIQUE (event_id)
);

-- The hashes, 256 a tile; the last one of each level grows until it is full.
CREATE TABLE workhorse.audit_tiles (
    level  smallint NOT NULL,
    index  bigint   NOT NULL,
    width  smallint NOT NULL,
    hashes bytea    NOT NULL,
    CONSTRAINT audit_tiles_pkey PRIMARY KEY (level, index)
);

-- What was signed: each a note with its signatures.
CREATE TABLE workhorse.audit_checkpoints (
    size      bigint      NOT NULL,
    note      text        NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_checkpoints_pkey PRIMARY KEY (size)
);
