-- The key of each data subject, wrapped by a key that is not in the database. What is encrypted under it is erased by
-- destroying it: the row stays without the key, as the record of the erasure.
CREATE TABLE workhorse.subject_keys (
    subject      text        NOT NULL,
    wrapped      bytea,                         -- null: destroyed
    wrapped_by   text        NOT NULL,          -- the id of the key that wrapped it
    made_at      timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    reason       text,                          -- why it was destroyed
    CONSTRAINT subject_keys_pkey PRIMARY KEY (subject),
    CONSTRAINT subject_keys_destroyed CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);
-- For the rotation of the wrapping key.
CREATE INDEX subject_keys_wrapped_by ON workhorse.subject_keys (wrapped_by) WHERE wrapped IS NOT NULL;
