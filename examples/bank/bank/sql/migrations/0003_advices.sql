-- What the creditor of a transfer is told: one advice a transfer, written by a job after the transfer has committed.

CREATE TABLE bank.advices (
    -- The key is the promise: a second advice of a transfer cannot be written.
    transfer bigint PRIMARY KEY REFERENCES bank.transfers (id),
    account bigint NOT NULL REFERENCES bank.accounts (id),
    -- The payer as the creditor is told of him, whatever his account is called later.
    payer bank.line NOT NULL,
    payer_iban text COLLATE "C" NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX advices_by_account ON bank.advices (account, transfer);

CREATE TRIGGER advices_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON bank.advices
    FOR EACH STATEMENT EXECUTE FUNCTION bank.refuse('an advice stands as it was written');

-- Transfers up to this one were posted before there were advices: the audit asks for none.
CREATE TABLE bank.unadvised (
    up_to bigint NOT NULL,
    single boolean PRIMARY KEY DEFAULT true CHECK (single)
);
INSERT INTO bank.unadvised (up_to) SELECT coalesce(max(id), 0) FROM bank.transfers;

-- The transfers of which somebody has to be told. What the treasury pays brings money into the bank, without a word.
CREATE VIEW bank.told_transfers AS
    SELECT transfer.*
    FROM bank.transfers AS transfer
    JOIN bank.accounts AS payer ON payer.id = transfer.debtor AND payer.floor >= 0
    WHERE transfer.id > (SELECT up_to FROM bank.unadvised);
