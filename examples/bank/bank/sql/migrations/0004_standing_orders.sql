-- Standing orders: paid once on each of their days, by a set at a time.

CREATE TYPE bank.rhythm AS ENUM ('day', 'week', 'month');

CREATE TABLE bank.standing_orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    debtor bigint NOT NULL,
    creditor bigint NOT NULL,
    amount bigint NOT NULL,
    every bank.rhythm NOT NULL,
    starts date NOT NULL,
    -- How many of its days are behind it.
    turns integer NOT NULL DEFAULT 0,
    -- The day on which it is to be paid next; NULL when it was ended.
    due date,
    opened_at timestamptz NOT NULL DEFAULT now(),
    currency bank.currency NOT NULL,
    reference bank.line NOT NULL DEFAULT '',
    CONSTRAINT standing_orders_amount CHECK (amount BETWEEN 1 AND 9007199254740991),
    CONSTRAINT standing_orders_two_accounts CHECK (debtor <> creditor),
    CONSTRAINT standing_orders_debtor FOREIGN KEY (debtor, currency) REFERENCES bank.accounts (id, currency),
    CONSTRAINT standing_orders_creditor FOREIGN KEY (creditor, currency) REFERENCES bank.accounts (id, currency)
);
CREATE INDEX standing_orders_due ON bank.standing_orders (due, id) WHERE due IS NOT NULL;

-- What became of each order on each of its days. The key is the promise: no day is paid twice.
CREATE TABLE bank.standing_payments (
    standing_order bigint NOT NULL REFERENCES bank.standing_orders (id),
    due date NOT NULL,
    -- `posted`, or why not, in the words of bank.post_transfer.
    outcome text NOT NULL,
    transfer bigint UNIQUE REFERENCES bank.transfers (id),
    executed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (standing_order, due),
    CONSTRAINT standing_payments_outcome CHECK ((outcome = 'posted') = (transfer IS NOT NULL))
);

-- The day of an order after so many turns. Counted from its start, so that the 31st is the last day of a short month
-- and the 31st again in the next.
CREATE FUNCTION bank.day_of(starts date, every bank.rhythm, turns integer) RETURNS date
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT (starts + turns * ('1 ' || every)::interval)::date $$;

-- Pays the orders that are due by `today`, at most `most` of them and each for one day only, as if one after another.
-- Orders that another transaction pays at this moment are left to it.
CREATE FUNCTION bank.pay_standing_orders(today date, most integer)
RETURNS TABLE (outcome text, transfer bigint, debtor bigint, creditor bigint, currency text, amount bigint)
LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
    days date[];
    payers bigint[];
    payees bigint[];
    units text[];
    sums bigint[];
    remarks text[];
BEGIN
    SELECT array_agg(o.id), array_agg(o.due), array_agg(o.debtor), array_agg(o.creditor),
        array_agg(o.currency::text), array_agg(o.amount), array_agg(o.reference::text)
    INTO ids, days, payers, payees, units, sums, remarks
    FROM (
        SELECT * FROM bank.standing_orders AS due_order WHERE due_order.due <= today
        ORDER BY due_order.due, due_order.id LIMIT most FOR NO KEY UPDATE SKIP LOCKED
    ) AS o;
    IF ids IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        WITH paid AS MATERIALIZED (
            SELECT p.* FROM bank.post_transfers(payers, payees, units, sums, remarks) AS p
        ), noted AS (
            INSERT INTO bank.standing_payments (standing_order, due, outcome, transfer)
            SELECT ids[p.place], days[p.place], p.outcome, p.transfer FROM paid AS p
        )
        SELECT p.outcome, p.transfer, payers[p.place], payees[p.place], units[p.place], sums[p.place]
        FROM paid AS p ORDER BY p.place;
    UPDATE bank.standing_orders AS o
    SET turns = o.turns + 1, due = bank.day_of(o.starts, o.every, o.turns + 1)
    WHERE o.id = ANY (ids);
END
$$;
