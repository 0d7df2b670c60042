-- The end of the day, in the steps of its report.

-- name: unreported_days
-- Days that are over and have no report, the oldest first, from the day of the first transfer on.
SELECT day::date
FROM generate_series(
        (SELECT (posted_at AT TIME ZONE 'UTC')::date FROM bank.transfers ORDER BY id LIMIT 1),
        (now() AT TIME ZONE 'UTC')::date - 1, interval '1 day'
    ) AS day
WHERE NOT EXISTS (SELECT FROM bank.reports AS report WHERE report.day = day.day::date)
ORDER BY day LIMIT %(most)s;

-- name: totals
-- Per currency what was moved on a day.
SELECT currency::text, count(*), sum(amount)::bigint, count(reverses)
FROM bank.transfers
WHERE posted_at >= %(day)s::date::timestamp AT TIME ZONE 'UTC'
    AND posted_at < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
GROUP BY currency ORDER BY currency;

-- name: write_page
-- Writes the next page of a day's file: both entries of each of its transfers after a given one. Tells the last of
-- these and the lines; no row comes back if there are none.
WITH transfer AS (
    SELECT id, debtor, creditor, currency, amount, reference, posted_at FROM bank.transfers
    WHERE id > %(after)s AND posted_at >= %(day)s::date::timestamp AT TIME ZONE 'UTC'
        AND posted_at < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
    ORDER BY id LIMIT %(most)s
), entry AS (
    SELECT id, debtor AS account, creditor AS counterparty, currency, -amount AS amount, reference, posted_at
    FROM transfer
    UNION ALL
    SELECT id, creditor, debtor, currency, amount, reference, posted_at FROM transfer
), written AS (
    INSERT INTO bank.report_pages (day, page, lines, content)
    SELECT %(day)s::date, %(page)s, count(*), E'transfer,account,counterparty,currency,amount,reference,posted_at\r\n'
        || string_agg(
            concat_ws(',', id, account, counterparty, currency, amount, bank.csv(reference),
                to_char(posted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) || E'\r\n',
            '' ORDER BY id, amount)
    FROM entry HAVING count(*) > 0
    RETURNING lines
)
SELECT (SELECT max(id) FROM transfer), lines FROM written;

-- name: publish
-- Makes the report known.
INSERT INTO bank.reports (day, totals, proof, pages, lines)
VALUES (%(day)s, %(totals)s::text::json, %(proof)s::text::json, %(pages)s, %(lines)s);

-- name: is_reported
-- Whether a day has its report.
SELECT EXISTS (SELECT FROM bank.reports WHERE day = %(day)s);

-- name: forget_pages
-- Forgets the pages of a report that was never made known.
DELETE FROM bank.report_pages WHERE day = %(day)s;

-- name: find_report
-- One report.
SELECT day, totals, proof, pages, lines, made_at FROM bank.reports WHERE day = %(day)s;

-- name: find_page
-- One page of a day's file, once the report is there.
SELECT page.content FROM bank.report_pages AS page JOIN bank.reports USING (day)
WHERE day = %(day)s AND page.page = %(page)s;
