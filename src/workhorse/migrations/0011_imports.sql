-- Which files were imported into which tables, and how far: a file's rows are written with this row, so that none is
-- written twice, whoever imports the file again, and after whichever crash.
CREATE TABLE workhorse.imports (
    target        text        NOT NULL,            -- schema.table
    digest        bytea       NOT NULL,            -- SHA-256 of the file and of how it was read
    rows_read     bigint      NOT NULL DEFAULT 0,  -- of the file, in committed chunks, the refused ones included
    rows_written  bigint      NOT NULL DEFAULT 0,
    done          boolean     NOT NULL DEFAULT false,
    began_at      timestamptz NOT NULL DEFAULT now(),
    moved_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT imports_pkey PRIMARY KEY (target, digest)
);
