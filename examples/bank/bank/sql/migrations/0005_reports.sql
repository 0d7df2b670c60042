-- The end of the day: one report a day, and the file of all entries of that day, in pages.

CREATE TABLE bank.reports (
    -- The key is the promise: a day has one report.
    day date PRIMARY KEY,
    totals json NOT NULL,
    proof json NOT NULL,
    pages integer NOT NULL,
    lines bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE bank.report_pages (
    day date NOT NULL,
    page integer NOT NULL,
    lines bigint NOT NULL,
    -- CSV (RFC 4180) with a heading.
    content text NOT NULL,
    PRIMARY KEY (day, page)
);

-- A few bytes for each hundred pages of the journal: it is in the order of the days already.
-- workhorse: accept index_locks, since a BRIN index of this table is built in less than a second
CREATE INDEX transfers_by_day ON bank.transfers USING brin (posted_at);

-- Text as a field of CSV (RFC 4180). A program that calculates takes a field that begins like this for a formula, and
-- what customers write is not to be run there: it gets an apostrophe before it (OWASP, CSV Injection).
CREATE FUNCTION bank.csv(field text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT '"' || replace(CASE WHEN field ~ '^[-=+@]' THEN '''' || field ELSE field END, '"', '""') || '"'
$$;
