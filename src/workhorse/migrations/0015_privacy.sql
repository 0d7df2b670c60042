-- What persons have agreed to, and that they have taken it back: one row for each time, and none is ever changed.
CREATE TABLE workhorse.consents (
    id        bigint      GENERATED ALWAYS AS IDENTITY,
    subject   text        NOT NULL,                 -- the person, as in subject_keys
    purpose   text        NOT NULL,
    given     boolean     NOT NULL,                 -- false: taken back
    version   integer     NOT NULL,                 -- of the text that the person was shown
    how       text        NOT NULL,                 -- such as 'web form'
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT consents_pkey PRIMARY KEY (id)
);
-- The latest word of a person on a purpose.
CREATE INDEX consents_latest ON workhorse.consents (subject, purpose, id DESC);
