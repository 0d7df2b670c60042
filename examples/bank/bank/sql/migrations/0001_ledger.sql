-- The ledger: a bank whose books balance by construction.
--
-- The only journal is `transfers`. Both legs of a posting are one row, so a posting that does not balance cannot be
-- written: there is nowhere to write it. Balances are moved by one trigger on that table and by nothing else, journal
-- rows are never changed, and the limits of a balance hold whoever writes. Code in front of this schema may be wrong;
-- the sum of all balances of a currency is zero all the same.
--
-- What this does not defend against: the owner of the tables, who may drop a trigger. Serve with another role.

CREATE SCHEMA bank;

-- Domains, not CHECKs on the columns: a domain is checked when a value comes in, a CHECK at every change of the row,
-- and the rows of accounts change thousands of times a second.
CREATE DOMAIN bank.currency AS text COLLATE "C" CONSTRAINT currency_code CHECK (value ~ '^[A-Z]{3}$');
CREATE DOMAIN bank.line AS text CONSTRAINT line_length CHECK (length(value) <= 140);

-- The IBAN (ISO 13616) of an account of this bank, from its number. The bank code 00000000 is no bank's.
CREATE FUNCTION bank.iban_of(account bigint) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    -- ISO 7064 mod 97-10: the country DE reads as 1314, the check digits as 00, both moved to the end.
    SELECT 'DE' || lpad((98 - (lpad(account::text, 18, '0') || '131400')::numeric % 97)::text, 2, '0')
        || lpad(account::text, 18, '0')
$$;

CREATE TABLE bank.accounts (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 9999999999) PRIMARY KEY,
    -- Money is a whole number of minor units (cents, yen, fils).
    balance bigint NOT NULL DEFAULT 0,
    -- The lowest balance allowed: 0 for customers; below it only for the treasury, which funds all the others.
    floor bigint NOT NULL DEFAULT 0,
    -- How often and how much this account has paid. Kept here, the bank's turnover needs no scan of its journal.
    debits bigint NOT NULL DEFAULT 0,
    debited bigint NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL DEFAULT now(),
    currency bank.currency NOT NULL,
    iban text COLLATE "C" NOT NULL,
    owner bank.line NOT NULL,
    CONSTRAINT accounts_iban UNIQUE (iban),
    -- The target of the journal's foreign keys: an account together with its currency.
    CONSTRAINT accounts_id_currency UNIQUE (id, currency),
    CONSTRAINT accounts_floor CHECK (balance >= floor),
    -- 2^53 - 1: the largest integer that every JSON parser keeps exact (RFC 8259, section 6).
    CONSTRAINT accounts_ceiling CHECK (balance <= 9007199254740991)
)
-- Room on each page for the next version of its rows, so that an update touches no index (a HOT update).
WITH (fillfactor = 50);

-- One treasury per currency.
CREATE UNIQUE INDEX accounts_treasury ON bank.accounts (currency) WHERE floor < 0;

CREATE TABLE bank.transfers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    debtor bigint NOT NULL,
    creditor bigint NOT NULL,
    amount bigint NOT NULL,
    -- The transfer that this one takes back.
    reverses bigint,
    -- By the wall clock and not by the start of the transaction, so that it rises with the id on each account.
    posted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    currency bank.currency NOT NULL,
    reference bank.line NOT NULL DEFAULT '',
    CONSTRAINT transfers_amount CHECK (amount BETWEEN 1 AND 9007199254740991),
    CONSTRAINT transfers_two_accounts CHECK (debtor <> creditor),
    -- Both accounts exist and are kept in the currency of the transfer.
    CONSTRAINT transfers_debtor FOREIGN KEY (debtor, currency) REFERENCES bank.accounts (id, currency),
    CONSTRAINT transfers_creditor FOREIGN KEY (creditor, currency) REFERENCES bank.accounts (id, currency)
);

-- A transfer is taken back once.
CREATE UNIQUE INDEX transfers_reverses ON bank.transfers (reverses) WHERE reverses IS NOT NULL;
-- A statement reads one account's entries, newest first, and adds up the newer ones without visiting the table.
CREATE INDEX transfers_by_debtor ON bank.transfers (debtor, id) INCLUDE (amount);
CREATE INDEX transfers_by_creditor ON bank.transfers (creditor, id) INCLUDE (amount);

-- The double entries of classical book-keeping: a view, because they say nothing that the transfer does not say.
CREATE VIEW bank.entries (transfer, account, counterparty, amount) AS
    SELECT id, debtor, creditor, -amount FROM bank.transfers
    UNION ALL
    SELECT id, creditor, debtor, amount FROM bank.transfers;

-- The payment files taken in. A message of the same party is taken in once (the MsgId of ISO 20022 is unique so).
CREATE TABLE bank.payment_files (
    initiating_party bank.line NOT NULL,
    message_id bank.line NOT NULL,
    transactions bigint NOT NULL CHECK (transactions > 0),
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (initiating_party, message_id)
);

-- Moves the balances: the net of all transfers of one statement, set-wise, accounts locked in the order of their ids.
CREATE FUNCTION bank.move_balances() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    posted record;
    touched bigint[];
    deltas bigint[];
    counts bigint[];
    sums bigint[];
BEGIN
    SELECT count(*), min(debtor) AS debtor, min(creditor) AS creditor, min(amount) AS amount
    INTO posted FROM new_transfers;
    -- The usual case, for half the price.
    IF posted.count = 1 THEN
        UPDATE bank.accounts AS account
        SET balance = account.balance + CASE account.id WHEN posted.debtor THEN -posted.amount ELSE posted.amount END,
            debits = account.debits + CASE account.id WHEN posted.debtor THEN 1 ELSE 0 END,
            debited = account.debited + CASE account.id WHEN posted.debtor THEN posted.amount ELSE 0 END
        WHERE account.id IN (posted.debtor, posted.creditor);
        RETURN NULL;
    END IF;
    SELECT array_agg(net.account), array_agg(net.delta), array_agg(net.debits), array_agg(net.debited)
    INTO touched, deltas, counts, sums
    FROM (
        SELECT entry.account, sum(entry.delta)::bigint AS delta,
            count(*) FILTER (WHERE entry.delta < 0) AS debits,
            coalesce(-sum(entry.delta) FILTER (WHERE entry.delta < 0), 0)::bigint AS debited
        FROM (
            SELECT debtor AS account, -amount AS delta FROM new_transfers
            UNION ALL
            SELECT creditor, amount FROM new_transfers
        ) AS entry
        GROUP BY entry.account
    ) AS net;
    PERFORM FROM bank.accounts WHERE id = ANY (touched) ORDER BY id FOR NO KEY UPDATE;
    UPDATE bank.accounts AS account
    SET balance = account.balance + net.delta,
        debits = account.debits + net.debits,
        debited = account.debited + net.debited
    FROM unnest(touched, deltas, counts, sums) AS net (account, delta, debits, debited)
    WHERE account.id = net.account;
    RETURN NULL;
END
$$;

CREATE TRIGGER transfers_move_balances AFTER INSERT ON bank.transfers
    REFERENCING NEW TABLE AS new_transfers
    FOR EACH STATEMENT EXECUTE FUNCTION bank.move_balances();

-- A reversal is the mirror of a transfer that is no reversal itself.
CREATE FUNCTION bank.check_reversal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM bank.transfers AS original
        WHERE original.id = new.reverses AND original.reverses IS NULL AND original.currency = new.currency
            AND (original.creditor, original.debtor, original.amount) = (new.debtor, new.creditor, new.amount)
    ) THEN
        RAISE integrity_constraint_violation
            USING MESSAGE = format('transfer %s is not reversed by a transfer that does not mirror it', new.reverses);
    END IF;
    RETURN new;
END
$$;

CREATE TRIGGER transfers_check_reversal BEFORE INSERT ON bank.transfers
    FOR EACH ROW WHEN (new.reverses IS NOT NULL) EXECUTE FUNCTION bank.check_reversal();

-- An account starts empty, and its IBAN follows from its number.
CREATE FUNCTION bank.open_empty() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (new.balance, new.debits, new.debited) <> (0, 0, 0) THEN
        RAISE integrity_constraint_violation USING MESSAGE = 'an account is opened empty and funded by a transfer';
    END IF;
    new.iban := bank.iban_of(new.id);
    RETURN new;
END
$$;

CREATE TRIGGER accounts_open_empty BEFORE INSERT ON bank.accounts
    FOR EACH ROW EXECUTE FUNCTION bank.open_empty();

-- Refuses the statement that fires it. The trigger's argument says why.
CREATE FUNCTION bank.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE integrity_constraint_violation USING MESSAGE = format('%s of bank.%s refused: %s', tg_op, tg_table_name, tg_argv[0]);
END
$$;

-- At depth 0 no trigger is at work, so the statement is not the one in move_balances.
CREATE TRIGGER accounts_balances_follow_transfers BEFORE UPDATE OF balance, debits, debited ON bank.accounts
    FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0)
    EXECUTE FUNCTION bank.refuse('balances are moved by transfers only');
CREATE TRIGGER accounts_keep_identity BEFORE UPDATE OF id, currency, iban, opened_at ON bank.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION bank.refuse('an account keeps its number, currency and IBAN');
CREATE TRIGGER accounts_stay BEFORE DELETE OR TRUNCATE ON bank.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION bank.refuse('accounts are never removed');
CREATE TRIGGER transfers_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON bank.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION bank.refuse('a posted transfer is never changed; reverse it by another');

-- Posts one transfer, or says why not. Whatever the outcome, it is decided on accounts that stay locked until the end
-- of the transaction, and always locked in the order of their ids, so that two transfers cannot wait for each other.
CREATE FUNCTION bank.post_transfer(
    payer bigint, payee bigint, unit bank.currency, sum bigint, remark bank.line, taken_back bigint DEFAULT NULL,
    OUT outcome text, OUT transfer bigint, OUT at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    debtor_currency text;
    debtor_room bigint;
    creditor_currency text;
    creditor_balance bigint;
BEGIN
    SELECT max(party.currency) FILTER (WHERE party.id = payer),
        max(party.balance - party.floor) FILTER (WHERE party.id = payer),
        max(party.currency) FILTER (WHERE party.id = payee),
        max(party.balance) FILTER (WHERE party.id = payee)
    INTO debtor_currency, debtor_room, creditor_currency, creditor_balance
    FROM (
        SELECT a.id, a.currency, a.balance, a.floor FROM bank.accounts AS a
        WHERE a.id IN (payer, payee) ORDER BY a.id FOR NO KEY UPDATE
    ) AS party;
    outcome := CASE
        WHEN payer = payee THEN 'same_account'
        WHEN debtor_currency IS NULL THEN 'unknown_debtor'
        WHEN creditor_currency IS NULL THEN 'unknown_creditor'
        WHEN debtor_currency <> unit OR creditor_currency <> unit THEN 'currency_mismatch'
        WHEN sum > 9007199254740991 THEN 'overflow'
        WHEN debtor_room < sum THEN 'insufficient_funds'
        WHEN creditor_balance + sum > 9007199254740991 THEN 'overflow'
    END;
    IF outcome IS NOT NULL THEN
        RETURN;
    END IF;
    outcome := 'posted';
    INSERT INTO bank.transfers (debtor, creditor, currency, amount, reference, reverses)
    VALUES (payer, payee, unit, sum, remark, taken_back)
    RETURNING id, posted_at INTO transfer, at;
END
$$;

-- Takes a transfer back by its mirror, or says why not.
CREATE FUNCTION bank.reverse_transfer(
    original bigint,
    OUT outcome text, OUT transfer bigint, OUT debtor bigint, OUT creditor bigint, OUT currency text, OUT amount bigint,
    OUT reference text, OUT posted_at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    taken_back bank.transfers;
BEGIN
    SELECT * INTO taken_back FROM bank.transfers AS t WHERE t.id = original;
    outcome := CASE
        WHEN taken_back.id IS NULL THEN 'unknown_transfer'
        WHEN taken_back.reverses IS NOT NULL THEN 'is_reversal'
    END;
    IF outcome IS NOT NULL THEN
        RETURN;
    END IF;
    debtor := taken_back.creditor;
    creditor := taken_back.debtor;
    currency := taken_back.currency;
    amount := taken_back.amount;
    reference := 'Reversal of transfer ' || original;
    -- Under the locks that every reversal of this transfer takes, nobody else can be about to reverse it.
    PERFORM FROM bank.accounts AS a WHERE a.id IN (debtor, creditor) ORDER BY a.id FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM bank.transfers AS t WHERE t.reverses = original) THEN
        outcome := 'already_reversed';
        RETURN;
    END IF;
    SELECT p.outcome, p.transfer, p.at INTO outcome, transfer, posted_at
    FROM bank.post_transfer(debtor, creditor, currency, amount, reference, original) AS p;
END
$$;

-- Posts many transfers as if one after another, and says of each (by its place, from 1) how it went.
CREATE FUNCTION bank.post_transfers(
    payers bigint[], payees bigint[], units text[], sums bigint[], remarks text[]
) RETURNS TABLE (place bigint, outcome text, transfer bigint) LANGUAGE plpgsql AS $$
DECLARE
    tight bigint[];
    places bigint[];
    ids bigint[];
    settled integer := 1;
    wish record;
BEGIN
    PERFORM FROM bank.accounts WHERE id = ANY (payers || payees) ORDER BY id FOR NO KEY UPDATE;
    -- An account is tight if it might not bear all of these transfers in any order. The transfers between accounts that
    -- are not tight all succeed, whatever becomes of the others: they go in one statement.
    SELECT coalesce(array_agg(account.id), '{}') INTO tight
    FROM (
        SELECT leg.account, sum(leg.debit) AS debits, sum(leg.credit) AS credits
        FROM (
            SELECT w.payer AS account, w.sum AS debit, 0 AS credit FROM unnest(payers, sums) AS w (payer, sum)
            UNION ALL
            SELECT w.payee, 0, w.sum FROM unnest(payees, sums) AS w (payee, sum)
        ) AS leg
        GROUP BY leg.account
    ) AS demand
    JOIN bank.accounts AS account ON account.id = demand.account
    WHERE account.balance - demand.debits < account.floor OR account.balance + demand.credits > 9007199254740991;

    WITH easy AS MATERIALIZED (
        SELECT w.*, nextval('bank.transfers_id_seq') AS id
        FROM unnest(payers, payees, units, sums, remarks)
            WITH ORDINALITY AS w (payer, payee, unit, sum, remark, place)
        JOIN bank.accounts AS debtor ON debtor.id = w.payer AND debtor.currency = w.unit
        JOIN bank.accounts AS creditor ON creditor.id = w.payee AND creditor.currency = w.unit
        WHERE w.payer <> w.payee AND w.sum BETWEEN 1 AND 9007199254740991
            AND w.payer <> ALL (tight) AND w.payee <> ALL (tight)
    ), posted AS (
        INSERT INTO bank.transfers (id, debtor, creditor, currency, amount, reference) OVERRIDING SYSTEM VALUE
        SELECT e.id, e.payer, e.payee, e.unit, e.sum, e.remark FROM easy AS e
    )
    SELECT array_agg(e.place ORDER BY e.place), array_agg(e.id ORDER BY e.place) INTO places, ids FROM easy AS e;
    RETURN QUERY SELECT e.place, 'posted', e.id FROM unnest(places, ids) AS e (place, id);

    -- The rest one by one, in their order: each depends on what the ones before it left.
    FOR wish IN
        SELECT w.* FROM unnest(payers, payees, units, sums, remarks)
            WITH ORDINALITY AS w (payer, payee, unit, sum, remark, place) ORDER BY w.place
    LOOP
        IF places[settled] = wish.place THEN
            settled := settled + 1;
            CONTINUE;
        END IF;
        place := wish.place;
        SELECT p.outcome, p.transfer INTO outcome, transfer
        FROM bank.post_transfer(wish.payer, wish.payee, wish.unit, wish.sum, wish.remark) AS p;
        RETURN NEXT;
    END LOOP;
END
$$;
