-- A time that no reader can read would stop every feed at its event. Rows that an earlier version wrote are not looked
-- at (NOT VALID): whatever is wrong with them has shown by now.
ALTER TABLE workhorse.events ADD CONSTRAINT events_occurred_at
    CHECK (occurred_at >= '1970-01-01 00:00:00+00' AND occurred_at < '9999-12-31 00:00:00+00') NOT VALID;
