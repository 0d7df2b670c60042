-- What measures have counted: a row for each window and each combination of what they are counted by. It is written in the
-- transaction in which the measure's position in the journal moves, so that every event counts once.
CREATE TABLE workhorse.measures (
    measure     text        NOT NULL,
    version     integer     NOT NULL,           -- of its definition
    starts      timestamptz NOT NULL,           -- of the window
    by          jsonb       NOT NULL,           -- such as {"currency": "EUR"}; null where an event has no such field
    events      bigint      NOT NULL,
    rejected    bigint      NOT NULL,           -- events of which a value is no number; what they have else is counted
    summed      numeric,
    least       numeric,
    greatest    numeric,
    averaged    numeric,                        -- the sum of what is averaged
    averaged_of bigint      NOT NULL,           -- over how many
    CONSTRAINT measures_pkey PRIMARY KEY (measure, version, starts, by)
);

-- The number that a field of an event has, as a JSON number or as the text of one; else null. The text is bounded, since
-- an exponent of nine digits would be a number of as many.
CREATE FUNCTION workhorse.measured_number(field jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(field) IN ('number', 'string') AND length(field #>> '{}') <= 100
                 AND field #>> '{}' ~ '^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)$'
                THEN (field #>> '{}')::numeric END
$$;
