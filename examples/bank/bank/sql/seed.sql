-- The seed, in four sets.

-- name: one_at_a_time
-- Two seeds at once would each add what is missing; the second waits here for the first to commit.
SELECT pg_advisory_xact_lock(hashtext('bank.seed'));

-- name: open_treasuries
-- A treasury for each currency that has none. Its floor below zero is what makes it the treasury.
INSERT INTO bank.accounts (owner, currency, floor)
SELECT 'Treasury ' || code, code, %(floor)s FROM unnest(%(currencies)s::text[]) AS code
ON CONFLICT (currency) WHERE floor < 0 DO NOTHING;

-- name: open_customers
-- Customers up to the wanted number, the currencies in turn.
INSERT INTO bank.accounts (owner, currency)
SELECT 'Customer ' || number, (%(currencies)s::text[])[1 + number %% cardinality(%(currencies)s::text[])]
FROM generate_series((SELECT count(*) + 1 FROM bank.accounts WHERE floor >= 0), %(accounts)s) AS number;

-- name: fund_customers
-- The opening balance for each customer of this transaction, from the treasury of its currency.
INSERT INTO bank.transfers (debtor, creditor, currency, amount, reference)
SELECT treasury.id, customer.id, customer.currency, %(opening_balance)s, 'Opening balance'
FROM bank.accounts AS customer
JOIN bank.accounts AS treasury ON treasury.currency = customer.currency AND treasury.floor < 0
WHERE customer.floor >= 0 AND customer.opened_at = now()
ORDER BY customer.id;

-- name: refresh_statistics
-- What the planner knows of the tables.
ANALYZE bank.accounts, bank.transfers;
