"""What the customers do: decided from a random generator and a list of accounts, without touching anything.

Most pay somebody who keeps an account in the same currency, and some of those are shops, which everybody pays. A few
are told no: they lack the money, mistype an account, or send what no bank understands. Each step names the answers
that a right bank gives to it, so that any other is noticed.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from bank.iban import check_digits
from bank.money import LARGEST, Currency, format_amount

__all__ = ["EXPECTED", "Customers", "Delivery", "Kind", "Party", "Step", "write_payment_file"]

# Above any account's number: ids end at 9,999,999,999.
NOBODY: Final = 10_000_000_001
NOBODY_IBAN: Final = "DE" + check_digits("DE", f"{NOBODY:018d}") + f"{NOBODY:018d}"
# More than any customer has, and still an amount.
FORTUNE: Final = LARGEST // 2
LARGEST_PAYMENT: Final = 500
# Of a hundred payments so many go to a shop; and of a hundred accounts so many are shops.
TO_SHOPS: Final = 0.3
SHOPS: Final = 0.01

FUNDS: Final = (409, "urn:bank:problem:insufficient-funds")
POSTED: Final = (201, "")


class Kind(Enum):
    """What a customer does."""

    PAY = auto()
    """A transfer like any other."""
    READ = auto()
    """The own statement."""
    REVERSE = auto()
    """Take the own last transfer back."""
    OVERDRAW = auto()
    """A transfer of more than the account has."""
    MISTYPE = auto()
    """A transfer to an account that does not exist."""
    PAY_SELF = auto()
    """A transfer from an account to itself."""
    CONFUSE = auto()
    """A transfer to an account of another currency."""
    REUSE = auto()
    """A transfer under the key of another one."""
    BABBLE = auto()
    """A body that is not JSON."""
    OMIT = auto()
    """A transfer with a negative amount and no creditor."""
    FORGET_KEY = auto()
    """A transfer without a key."""
    FORGET_TOKEN = auto()
    """A transfer by nobody."""
    PRY = auto()
    """A look into the books, which are no teller's business."""
    FLOOD = auto()
    """A body that is too large."""


class Delivery(Enum):
    """How often a request is sent."""

    ONCE = auto()
    """Once."""
    AGAIN = auto()
    """Again after its answer, as by a client that lost it."""
    TWICE = auto()
    """Twice at once, as by an impatient thumb."""


KINDS: Final[Mapping[Kind, int]] = MappingProxyType(
    {
        Kind.PAY: 872,
        Kind.READ: 20,
        Kind.REVERSE: 10,
        Kind.OVERDRAW: 25,
        Kind.MISTYPE: 10,
        Kind.PAY_SELF: 6,
        Kind.CONFUSE: 9,
        Kind.REUSE: 10,
        Kind.BABBLE: 6,
        Kind.OMIT: 8,
        Kind.FORGET_KEY: 8,
        Kind.FORGET_TOKEN: 4,
        Kind.PRY: 4,
        Kind.FLOOD: 8,
    }
)
"""How often each kind of step is, in a thousand."""

DELIVERIES: Final[Mapping[Delivery, int]] = MappingProxyType(
    {Delivery.ONCE: 880, Delivery.AGAIN: 60, Delivery.TWICE: 60}
)
"""How often each delivery is, in a thousand."""

EXPECTED: Final[Mapping[Kind, frozenset[tuple[int, str]]]] = MappingProxyType(
    {
        Kind.PAY: frozenset({POSTED, FUNDS}),
        Kind.READ: frozenset({(200, "")}),
        Kind.REVERSE: frozenset({POSTED, (409, "urn:bank:problem:creditor-cannot-repay")}),
        Kind.OVERDRAW: frozenset({FUNDS}),
        Kind.MISTYPE: frozenset({(422, "urn:bank:problem:unknown-creditor")}),
        Kind.PAY_SELF: frozenset({(422, "urn:bank:problem:same-account")}),
        Kind.CONFUSE: frozenset({(422, "urn:bank:problem:currency-mismatch")}),
        Kind.REUSE: frozenset({(422, "urn:workhorse:problem:idempotency-key-reused")}),
        Kind.BABBLE: frozenset({(422, "urn:workhorse:problem:invalid-request")}),
        Kind.OMIT: frozenset({(422, "urn:workhorse:problem:invalid-request")}),
        Kind.FORGET_KEY: frozenset({(400, "urn:workhorse:problem:idempotency-key-missing")}),
        Kind.FORGET_TOKEN: frozenset({(401, "urn:workhorse:problem:not-authenticated")}),
        Kind.PRY: frozenset({(403, "urn:workhorse:problem:not-allowed")}),
        Kind.FLOOD: frozenset({(413, "urn:workhorse:problem:body-too-large")}),
    }
)
"""The answers, as status and type of problem, that a right bank gives to each kind of step."""

DECIDED: Final = frozenset({Kind.PAY, Kind.REVERSE, Kind.OVERDRAW, Kind.MISTYPE, Kind.PAY_SELF, Kind.CONFUSE})
"""The kinds whose answer is a decision of the bank, which is kept and replayed."""


@dataclass(frozen=True, slots=True)
class Party:
    """An account that takes part."""

    id: int
    iban: str
    currency: Currency


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a customer does. `body` is empty for what is not a transfer; `payer` is whose money it is."""

    kind: Kind
    delivery: Delivery
    payer: int
    body: bytes


class Customers:
    """The accounts, and who pays whom. Steps depend on nothing but the generator that is given.

    Args:
        parties: at least two accounts in each of at least two currencies.

    Raises:
        ValueError: there are fewer.
    """

    def __init__(self, parties: Sequence[Party]) -> None:
        self._by_currency: dict[Currency, list[Party]] = {}
        for party in parties:
            self._by_currency.setdefault(party.currency, []).append(party)
        if len(self._by_currency) < 2 or any(len(group) < 2 for group in self._by_currency.values()):
            raise ValueError(
                f"{len(parties)} accounts are too few to trade with: it takes two currencies and two of each"
            )
        self._currencies = list(self._by_currency)
        self._parties = [party for currency in self._currencies for party in self._by_currency[currency]]

    def step(self, rng: random.Random) -> Step:
        """What a customer does next."""
        (kind,) = rng.choices(tuple(KINDS), tuple(KINDS.values()))
        delivery = Delivery.ONCE
        if kind in DECIDED:
            (delivery,) = rng.choices(tuple(DELIVERIES), tuple(DELIVERIES.values()))
        debtor = rng.choice(self._parties)
        return Step(kind, delivery, debtor.id, self._body(kind, debtor, rng))

    def payment(self, rng: random.Random) -> bytes:
        """An ordinary transfer between any two."""
        return self._body(Kind.PAY, rng.choice(self._parties), rng)

    def payroll(self, rng: random.Random, message_id: str, transactions: int) -> bytes:
        """A payment file by one employer: `transactions` small wages, of which the last is to an unknown account.

        Raises:
            ValueError: fewer than two transactions.
        """
        if transactions < 2:
            raise ValueError(f"a payroll has 2 transactions or more, not {transactions}")
        group = self._by_currency[rng.choice(self._currencies)]
        employer = rng.choice(group)
        credits_ = [(self._other(group, employer, rng).iban, rng.randint(1, 20)) for _ in range(transactions - 1)]
        return write_payment_file(message_id, employer, [*credits_, (NOBODY_IBAN, 1)])

    def _body(self, kind: Kind, debtor: Party, rng: random.Random) -> bytes:
        group = self._by_currency[debtor.currency]
        match kind:
            case Kind.READ | Kind.REVERSE | Kind.PRY | Kind.FLOOD:
                return b""
            case Kind.BABBLE:
                return b'{"debtor": 1, "creditor"'
            case Kind.OMIT:
                return json.dumps({"debtor": debtor.id, "currency": debtor.currency, "amount": -1}).encode()
            case Kind.MISTYPE:
                creditor = NOBODY
            case Kind.PAY_SELF:
                creditor = debtor.id
            case Kind.CONFUSE:
                others: list[Currency] = [currency for currency in self._currencies if currency != debtor.currency]
                creditor = rng.choice(self._by_currency[rng.choice(others)]).id
            case _:
                creditor = self._other(group, debtor, rng).id
        amount = FORTUNE if kind is Kind.OVERDRAW else rng.randint(1, LARGEST_PAYMENT)
        order = {
            "debtor": debtor.id,
            "creditor": creditor,
            "currency": debtor.currency,
            "amount": amount,
            "reference": f"invoice {rng.randrange(10**8):08d}",
        }
        return json.dumps(order).encode()

    def _other(self, group: Sequence[Party], one: Party, rng: random.Random) -> Party:
        """Somebody else: by chance one of the shops, which are the first of their currency."""
        shops = max(1, int(len(group) * SHOPS))
        place = rng.randrange(shops) if rng.random() < TO_SHOPS else rng.randrange(len(group))
        return group[place] if group[place] is not one else group[(place + 1) % len(group)]


def write_payment_file(message_id: str, debtor: Party, credits_: Sequence[tuple[str, int]]) -> bytes:
    """Write an ISO 20022 pain.001.001.09 with one payment of many transactions.

    Args:
        message_id: names the file for ever; ASCII letters, digits and hyphens, 35 at most.
        debtor: who pays.
        credits_: the creditors' IBANs and the amounts in minor units.
    """
    currency = debtor.currency
    count = len(credits_)
    total = format_amount(sum(amount for _, amount in credits_), currency)
    transactions = "".join(
        f"<CdtTrfTxInf><PmtId><EndToEndId>{message_id[:24]}-{number}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="{currency}">{format_amount(amount, currency)}</InstdAmt></Amt>'
        f"<CdtrAcct><Id><IBAN>{iban}</IBAN></Id></CdtrAcct>"
        f"<RmtInf><Ustrd>wage {number}</Ustrd></RmtInf></CdtTrfTxInf>"
        for number, (iban, amount) in enumerate(credits_, start=1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"><CstmrCdtTrfInitn>'
        f"<GrpHdr><MsgId>{message_id}</MsgId><CreDtTm>2026-01-01T00:00:00</CreDtTm><NbOfTxs>{count}</NbOfTxs>"
        f"<CtrlSum>{total}</CtrlSum><InitgPty><Nm>Example Employer</Nm></InitgPty></GrpHdr>"
        f"<PmtInf><PmtInfId>payroll</PmtInfId><PmtMtd>TRF</PmtMtd><NbOfTxs>{count}</NbOfTxs><CtrlSum>{total}</CtrlSum>"
        f"<DbtrAcct><Id><IBAN>{debtor.iban}</IBAN></Id></DbtrAcct>{transactions}</PmtInf>"
        "</CstmrCdtTrfInitn></Document>"
    ).encode()
