-- Advices: written by transfer, read, and counted against the journal.

-- name: write_advices
-- Writes the advices of transfers.
INSERT INTO bank.advices (transfer, account, payer, payer_iban)
SELECT transfer.id, transfer.creditor, payer.owner, payer.iban
FROM bank.transfers AS transfer JOIN bank.accounts AS payer ON payer.id = transfer.debtor
WHERE transfer.id = ANY (%(transfers)s);

-- name: find_advice
-- The advice of one transfer.
SELECT advice.transfer, advice.account, advice.payer, advice.payer_iban,
    transfer.currency, transfer.amount, transfer.reference, advice.written_at
FROM bank.advices AS advice JOIN bank.transfers AS transfer ON transfer.id = advice.transfer
WHERE advice.transfer = %(transfer)s;

-- name: audit_advices
-- Of the transfers that somebody is told of: how many there are, have exactly one event, and have their advice; and the
-- jobs that are still to write some. One statement, so that all are of the same moment.
SELECT count(*), count(*) FILTER (WHERE event.emitted = 1), count(advice.transfer),
    (SELECT count(*) FROM workhorse.jobs WHERE name = 'write_advices')
FROM bank.told_transfers AS transfer
LEFT JOIN (
    SELECT subject::bigint AS transfer, count(*) AS emitted
    FROM workhorse.events WHERE type = 'transfer.posted' GROUP BY subject
) AS event ON event.transfer = transfer.id
LEFT JOIN bank.advices AS advice ON advice.transfer = transfer.id;
