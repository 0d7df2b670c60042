-- What each version of a measure counts, so that a definition that has changed under the same version is found before
-- it counts into the figures of the old one. Code that does not know of it goes on without.
CREATE TABLE workhorse.measure_definitions (
    measure    text        NOT NULL,
    version    integer     NOT NULL,
    digest     text        NOT NULL,               -- SHA-256 of the definition's canonical text: this is what is compared
    definition jsonb       NOT NULL,               -- the same for people, who are told what has changed
    noted_at   timestamptz NOT NULL DEFAULT now(), -- by the first process that knew of this table
    CONSTRAINT measure_definitions_pkey PRIMARY KEY (measure, version)
);
