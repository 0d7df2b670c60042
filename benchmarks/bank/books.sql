-- The books of every variant. The search path says whose: the bank's schema, or that of the SQLAlchemy peer. Both have
-- accounts (id, currency, balance, floor), transfers (reference) and entries (account, amount).

-- name: ranges
-- The customers' accounts of each currency.
SELECT currency::text, min(id), max(id), count(*) FROM accounts WHERE floor = 0 GROUP BY currency ORDER BY currency;

-- name: journal
-- Transfers after the opening, and how many references they have.
SELECT count(*), count(DISTINCT reference) FROM transfers WHERE reference <> 'Opening balance';

-- name: balances
-- The sum of all balances, and the accounts that differ from their entries.
SELECT sum(account.balance), count(*) FILTER (WHERE account.balance <> coalesce(proof.balance, 0))
FROM accounts AS account
LEFT JOIN (SELECT account, sum(amount) AS balance FROM entries GROUP BY account) AS proof ON proof.account = account.id;

-- name: told
-- What a transfer of the bank leaves beside its entries: events, and the transfers that they name; advices that were
-- written, and those for which a job is still there; and replies that are kept.
SELECT count(*), count(DISTINCT subject),
    (SELECT count(*) FROM bank.advices),
    (SELECT coalesce(sum(json_array_length(arguments -> 'transfers')), 0)::bigint
     FROM workhorse.jobs WHERE name = 'write_advices' AND state <> 'dead'),
    (SELECT count(*) FROM workhorse.replies WHERE status = 201)
FROM workhorse.events WHERE type = 'transfer.posted';

-- name: open_treasuries
-- For the peer: what the bank's seed does, so that ids and balances are the same.
INSERT INTO accounts (owner, currency, floor)
SELECT 'Treasury ' || code, code, -9007199254740991 FROM unnest(%(currencies)s::text[]) AS code;

-- name: open_customers
-- Customers, the currencies in turn.
INSERT INTO accounts (owner, currency)
SELECT 'Customer ' || number, (%(currencies)s::text[])[1 + number %% cardinality(%(currencies)s::text[])]
FROM generate_series(1, %(accounts)s) AS number;

-- name: fund_transfers
-- The opening balances.
INSERT INTO transfers (debtor, creditor, currency, amount, reference)
SELECT treasury.id, customer.id, customer.currency, 1000000, 'Opening balance'
FROM accounts AS customer JOIN accounts AS treasury ON treasury.currency = customer.currency AND treasury.floor < 0
WHERE customer.floor = 0 ORDER BY customer.id;

-- name: fund_entries
-- Their two legs.
INSERT INTO entries (transfer, account, amount)
SELECT id, debtor, -amount FROM transfers UNION ALL SELECT id, creditor, amount FROM transfers;

-- name: fund_balances
-- The balances that follow from the entries.
UPDATE accounts SET balance = proof.balance
FROM (SELECT account, sum(amount) AS balance FROM entries GROUP BY account) AS proof
WHERE proof.account = accounts.id;
