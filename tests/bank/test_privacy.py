"""What the bank tells a customer, and what it may not forget."""

import asyncio

from bank import transfers
from bank.privacy import PRIVACY
from tests.bank.ledgers import Connection, funded, post
from tests.bank.units import unit_on
from tests.bank.workers import told


def test_nobody_has_left_a_field_of_the_bank_unclassified() -> None:
    assert PRIVACY.data_map.unclassified == []
    assert {"owner", "iban", "payer", "reference"} <= PRIVACY.personal_names


def test_a_customer_is_told_of_both_sides_of_each_transfer_and_the_books_stay(
    bank_database: str, ledger: Connection
) -> None:
    customer, creditor, other = funded(ledger, 100, 100, 100)
    paid, got = (post(ledger, *sides).transfer for sides in ((customer, creditor, 60), (other, customer, 5)))
    post(ledger, other, creditor, 7)
    assert paid is not None
    reversal = told(bank_database, lambda work: transfers.reverse(work, paid))

    async def main() -> None:
        async with unit_on(bank_database) as work:
            draft = await PRIVACY.draft(work, f"account/{customer}")
            receipt = await PRIVACY.erase(work, f"account/{customer}", reason="asked")
        moved = {entry.facts["id"] for entry in draft.entries if entry.source == "bank.transfers"}
        assert moved >= {paid, got, reversal.id}
        (owner,) = [entry.facts for entry in draft.entries if entry.source == "bank.accounts"]
        assert owner["id"] == customer
        events = [entry.facts for entry in draft.entries if entry.source == "events"]
        assert [(event["type"], event["subject"]) for event in events] == [("transfer.posted", str(reversal.id))]
        assert set(receipt.kept) == {"bank.accounts", "bank.transfers", "bank.advices", "bank.standing_orders"}
        assert receipt.deleted == receipt.blanked == {}

    asyncio.run(main())
