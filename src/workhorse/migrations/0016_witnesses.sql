-- Whom the sealer asks to sign checkpoints too (docs/audit.md, witnesses), and how each stands: over all processes.
CREATE TABLE workhorse.audit_witnesses (
    witness   text        NOT NULL,               -- its public key
    size      bigint      NOT NULL DEFAULT 0,     -- of the checkpoint that it signed last
    signed_at timestamptz,                        -- when, by its own clock
    next_at   timestamptz NOT NULL DEFAULT now(), -- it is not asked before
    failures  integer     NOT NULL DEFAULT 0,     -- in a row
    trouble   text,                               -- what went wrong the last time; null: nothing
    CONSTRAINT audit_witnesses_pkey PRIMARY KEY (witness)
);

-- How many of the known witnesses have signed a checkpoint. Who believes it looks at the signatures in the note.
ALTER TABLE workhorse.audit_checkpoints ADD COLUMN cosigned smallint NOT NULL DEFAULT 0;

-- How far the log lies in a store as static files.
CREATE TABLE workhorse.audit_published (
    store   text        NOT NULL,               -- its name
    size    bigint      NOT NULL DEFAULT 0,     -- entries whose full tiles are there
    next_at timestamptz NOT NULL DEFAULT now(), -- nothing is written before
    CONSTRAINT audit_published_pkey PRIMARY KEY (store)
);
