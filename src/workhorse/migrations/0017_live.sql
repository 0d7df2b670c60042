-- When a row of a measure changed last, for those who show it live: a number that grows with each change. One process
-- counts a measure at a time, under a lock that lasts until its commit, so of two changes the one that commits later has
-- the greater number, and whoever has seen one has seen all below it.
-- A trigger sets it, so that processes of the version before, which know no such column, set it too.
ALTER TABLE workhorse.measures ADD COLUMN revision bigint NOT NULL DEFAULT 0;

CREATE SEQUENCE workhorse.measure_revisions;

CREATE FUNCTION workhorse.revise_measure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := nextval('workhorse.measure_revisions');
    RETURN NEW;
END
$$;

CREATE TRIGGER measures_revision BEFORE INSERT OR UPDATE ON workhorse.measures
    FOR EACH ROW EXECUTE FUNCTION workhorse.revise_measure();
