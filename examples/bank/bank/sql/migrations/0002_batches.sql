-- Posts many transfers as if one after another, and says of each (by its place, from 1) how it went and when.
CREATE FUNCTION bank.post_batch(
    payers bigint[], payees bigint[], units text[], sums bigint[], remarks text[]
) RETURNS TABLE (place bigint, outcome text, transfer bigint, at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    places bigint[];
    outcomes text[];
    ids bigint[];
BEGIN
    SELECT array_agg(p.place), array_agg(p.outcome), array_agg(p.transfer) INTO places, outcomes, ids
    FROM bank.post_transfers(payers, payees, units, sums, remarks) AS p;
    -- A statement of its own, which sees what the first one wrote.
    RETURN QUERY
        SELECT p.place, p.outcome, p.transfer, t.posted_at
        FROM unnest(places, outcomes, ids) AS p (place, outcome, transfer)
        LEFT JOIN bank.transfers AS t ON t.id = p.transfer
        ORDER BY p.place;
END
$$;
