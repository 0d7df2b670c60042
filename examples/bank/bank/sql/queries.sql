-- The bank's queries, by name. The rules themselves are in the functions and constraints of migrations/.

-- name: open_account
-- Opens an empty account; its number and IBAN come from the database.
INSERT INTO bank.accounts (owner, currency) VALUES (%(owner)s, %(currency)s)
RETURNING id, iban, owner, currency, balance, floor;

-- name: find_account
-- One account.
SELECT id, iban, owner, currency, balance, floor FROM bank.accounts WHERE id = %(account)s;

-- name: statement
-- One account with a page of its entries, newest first, each with the balance right after it: the balance of now,
-- less what all newer entries moved. One statement, so that balance and entries are of the same moment.
WITH account AS (
    SELECT id, iban, owner, currency, balance, floor FROM bank.accounts WHERE id = %(account)s
), page AS (
    (
        SELECT id, creditor AS counterparty, -amount AS amount, reference, posted_at
        FROM bank.transfers WHERE debtor = %(account)s AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s
    ) UNION ALL (
        SELECT id, debtor, amount, reference, posted_at
        FROM bank.transfers WHERE creditor = %(account)s AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s
    )
    ORDER BY id DESC LIMIT %(limit)s
), newer AS (
    SELECT coalesce(sum(amount), 0) AS moved
    FROM bank.entries WHERE account = %(account)s AND transfer >= %(before)s
)
SELECT account.id, account.iban, account.owner, account.currency, account.balance, account.floor,
    page.id, page.counterparty, page.amount,
    (account.balance - newer.moved - coalesce(sum(page.amount) OVER later, 0))::bigint,
    page.reference, page.posted_at
FROM account CROSS JOIN newer LEFT JOIN page ON true
WINDOW later AS (ORDER BY page.id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
ORDER BY page.id DESC;

-- name: post_batch
-- Posts many transfers, and says of each how it went and when, in their order.
SELECT outcome, transfer, at
FROM bank.post_batch(%(debtors)s::bigint[], %(creditors)s::bigint[], %(currencies)s::text[],
    %(amounts)s::bigint[], %(references)s::text[])
ORDER BY place;

-- name: find_transfer
-- One transfer.
SELECT id, debtor, creditor, currency, amount, reference, reverses, posted_at
FROM bank.transfers WHERE id = %(transfer)s;

-- name: reverse_transfer
-- Takes a transfer back, or says why not.
SELECT outcome, transfer, debtor, creditor, currency, amount, reference, %(transfer)s::bigint, posted_at
FROM bank.reverse_transfer(%(transfer)s);

-- name: accept_payment_file
-- Notes a payment file; no row comes back if the party has sent a message with this MsgId before.
INSERT INTO bank.payment_files (initiating_party, message_id, transactions)
VALUES (%(initiating_party)s, %(message_id)s, %(transactions)s)
ON CONFLICT DO NOTHING RETURNING message_id;

-- name: accounts_by_iban
-- The accounts behind IBANs; those of other banks are left out.
SELECT iban, id FROM bank.accounts WHERE iban = ANY (%(ibans)s);

-- name: post_transfers
-- Posts many transfers, and says of each how it went, in their order.
SELECT outcome, transfer
FROM bank.post_transfers(%(debtors)s::bigint[], %(creditors)s::bigint[], %(currencies)s::text[],
    %(amounts)s::bigint[], %(references)s::text[])
ORDER BY place;

-- name: books
-- Per currency: accounts, sum of balances, transfers, turnover.
SELECT currency, count(*), sum(balance), sum(debits), sum(debited)
FROM bank.accounts GROUP BY currency ORDER BY currency;

-- name: audit
-- Per currency the same from the journal itself, and the accounts that differ from their entries.
SELECT account.currency, count(*), sum(account.balance), coalesce(sum(proof.debits), 0), coalesce(sum(proof.debited), 0),
    count(*) FILTER (
        WHERE (account.balance, account.debits, account.debited)
            <> (coalesce(proof.balance, 0), coalesce(proof.debits, 0), coalesce(proof.debited, 0))
    )
FROM bank.accounts AS account
LEFT JOIN (
    SELECT account, sum(amount) AS balance,
        count(*) FILTER (WHERE amount < 0) AS debits, -sum(amount) FILTER (WHERE amount < 0) AS debited
    FROM bank.entries GROUP BY account
) AS proof ON proof.account = account.id
GROUP BY account.currency ORDER BY account.currency;
