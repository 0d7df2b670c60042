-- Standing orders: given, read, ended and paid.

-- name: open_standing_order
-- Takes a standing order, or says why not.
WITH party AS (
    SELECT (SELECT currency FROM bank.accounts WHERE id = %(debtor)s::bigint) AS debtor,
        (SELECT currency FROM bank.accounts WHERE id = %(creditor)s::bigint) AS creditor
), opened AS (
    INSERT INTO bank.standing_orders (debtor, creditor, currency, amount, reference, every, starts, due)
    SELECT %(debtor)s::bigint, %(creditor)s::bigint, %(currency)s::text, %(amount)s::bigint, %(reference)s::text, %(every)s::text::bank.rhythm,
        %(starts)s::date, %(starts)s::date
    FROM party
    WHERE %(debtor)s::bigint <> %(creditor)s::bigint AND debtor = %(currency)s::text AND creditor = %(currency)s::text
        AND %(starts)s::date >= (now() AT TIME ZONE 'UTC')::date
    RETURNING id
)
SELECT CASE
        WHEN opened.id IS NOT NULL THEN 'opened'
        WHEN %(debtor)s::bigint = %(creditor)s::bigint THEN 'same_account'
        WHEN debtor IS NULL THEN 'unknown_debtor'
        WHEN creditor IS NULL THEN 'unknown_creditor'
        WHEN debtor <> %(currency)s::text OR creditor <> %(currency)s::text THEN 'currency_mismatch'
        ELSE 'starts_in_the_past'
    END, opened.id
FROM party LEFT JOIN opened ON true;

-- name: find_standing_order
-- One standing order.
SELECT id, debtor, creditor, currency, amount, reference, every::text, starts, due
FROM bank.standing_orders WHERE id = %(standing_order)s;

-- name: latest_payments
-- What became of it on the latest of its days.
SELECT due, outcome, transfer FROM bank.standing_payments
WHERE standing_order = %(standing_order)s ORDER BY due DESC LIMIT 50;

-- name: end_standing_order
-- Ends a standing order; what was paid stays.
UPDATE bank.standing_orders SET due = NULL WHERE id = %(standing_order)s;

-- name: pay_standing_orders
-- Pays what is due by a day, and says of each how it went.
SELECT outcome, transfer, debtor, creditor, currency, amount
FROM bank.pay_standing_orders(%(today)s, %(most)s);

-- name: today
-- The bank's day, by the database's clock: it ends at midnight UTC.
SELECT (now() AT TIME ZONE 'UTC')::date;
