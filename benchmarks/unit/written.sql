-- name: make_notes
-- The app's own table.
CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);

-- name: written
-- What an app has left so far. Replies have no app's name: the apps take turns where this is asked.
SELECT (SELECT count(*) FROM notes WHERE text = %(name)s),
       (SELECT count(*) FROM workhorse.replies),
       (SELECT count(*) FROM workhorse.events WHERE type = %(event)s),
       (SELECT count(*) FROM workhorse.jobs);
