"""Reads a customer's credit transfer initiation, ISO 20022 pain.001.001.03 and .09 upward. Pure: bytes in, values out.

The file comes from outside and may be hostile. So there is no tree: a target is told of each element as it begins and
ends, keeps the text of the few that matter, and counts. Memory is bounded by the number of transactions, time by the
number of elements; a document type, and with it every entity, is refused (CWE-611, CWE-776).

A malformed file is refused as a whole, with all its faults and not only the first, so that it is mended in one go.
What only the ledger knows (whether an account exists, or has the funds) is not looked at here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from types import MappingProxyType
from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from bank.iban import why_not_iban
from bank.money import Currency, MoneyError, is_currency, parse_amount
from workhorse.errors import Fault

__all__ = [
    "MAX_BYTES",
    "MAX_FAULTS",
    "MAX_TRANSACTIONS",
    "AccountName",
    "CreditTransfer",
    "FileFaults",
    "PaymentFile",
    "parse",
]

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_TRANSACTIONS: Final = 10_000
MAX_FAULTS: Final = 100
MAX_DEPTH: Final = 32
# A rich transaction has some 40 elements.
MAX_ELEMENTS: Final = 500_000

INITIATION: Final = "/Document/CstmrCdtTrfInitn"
_NAMESPACE: Final = re.compile(r"urn:iso:std:iso:20022:tech:xsd:pain\.001\.001\.(?P<version>[0-9]{2})")
_COUNT: Final = re.compile(r"[0-9]{1,15}")
_SUM: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,17})?")

# The elements that are read, with the most characters each may have (the Max35Text and so on of the standard).
HEADER: Final[Mapping[str, int]] = MappingProxyType(
    {
        "MsgId": 35,
        "CreDtTm": 40,
        "NbOfTxs": 15,
        "CtrlSum": 36,
        "InitgPty/Nm": 140,
        "InitgPty/Id/OrgId/Othr/Id": 35,
        "InitgPty/Id/PrvtId/Othr/Id": 35,
    }
)
PAYMENT: Final[Mapping[str, int]] = MappingProxyType(
    {"PmtInfId": 35, "PmtMtd": 3, "NbOfTxs": 15, "CtrlSum": 36, "DbtrAcct/Id/IBAN": 34, "DbtrAcct/Id/Othr/Id": 34}
)
TRANSACTION: Final[Mapping[str, int]] = MappingProxyType(
    {
        "PmtId/EndToEndId": 35,
        "Amt/InstdAmt": 36,
        "CdtrAcct/Id/IBAN": 34,
        "CdtrAcct/Id/Othr/Id": 34,
        "RmtInf/Ustrd": 140,
    }
)
# These may stand more than once; the first one counts.
REPEATABLE: Final = frozenset({"InitgPty/Id/OrgId/Othr/Id", "InitgPty/Id/PrvtId/Othr/Id", "RmtInf/Ustrd"})


class FileFaults(ValueError):
    """The file is malformed. `faults` says where and how, at most `MAX_FAULTS` times."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(f"{len(faults)} faults, first {faults[0].pointer}: {faults[0].reason}")
        self.faults = faults


@dataclass(frozen=True, slots=True)
class AccountName:
    """What a file calls an account: an IBAN whose check digits fit, or else an identification of the bank's own."""

    value: str
    is_iban: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditTransfer:
    """One transaction. `amount` is in minor units; `remittance` is the text for the creditor, or empty."""

    end_to_end_id: str
    debtor: AccountName
    creditor: AccountName
    currency: Currency
    amount: int
    remittance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFile:
    """A well-formed file. The initiating party and the message id together name it for ever."""

    initiating_party: str
    message_id: str
    transactions: tuple[CreditTransfer, ...]


def parse(content: bytes) -> PaymentFile:
    """Read a payment file.

    Raises:
        FileFaults: it is malformed.
    """
    faults = _Faults()
    if len(content) > MAX_BYTES:
        faults.stop("/", f"the file has {len(content)} bytes; {MAX_BYTES} are allowed")
    target = _Reader(faults)
    parser = DefusedXMLParser(target=target, forbid_dtd=True)
    try:
        parser.feed(content)
        parser.close()
    except DefusedXmlException:
        faults.stop("/", "the file declares a document type or an entity, which a payment file has no use for")
    except ParseError as error:
        faults.stop("/", f"the file is not well-formed XML: {error}")
    except (ValueError, LookupError) as error:
        if isinstance(error, FileFaults):
            raise
        faults.stop("/", "the file's character encoding is not known; use UTF-8")
    file = _Check(faults).file(target.header, target.payments)
    faults.raise_any()
    return file


class _Faults:
    """Collects faults up to the bound."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, pointer: str, reason: str) -> None:
        """Note a fault; the last one allowed ends the reading."""
        self._faults.append(Fault(pointer, reason))
        if len(self._faults) == MAX_FAULTS:
            self.raise_any()

    def stop(self, pointer: str, reason: str) -> None:
        """Note a fault after which there is no use in reading on."""
        self.add(pointer, reason)
        self.raise_any()

    def raise_any(self) -> None:
        if self._faults:
            raise FileFaults(tuple(self._faults))


@dataclass(slots=True)
class _Group:
    """A group of elements (the header, a payment, a transaction): where it stands, and the texts read in it."""

    pointer: str
    wanted: Mapping[str, int]
    depth: int
    texts: dict[str, str] = field(default_factory=dict[str, str])
    currency: str | None = None
    transactions: list["_Group"] = field(default_factory=list["_Group"])


class _Reader:
    """The parser's target: turns the stream of elements into groups of texts."""

    def __init__(self, faults: _Faults) -> None:
        self.header: _Group | None = None
        self.payments: list[_Group] = []
        self._faults = faults
        self._prefix = ""
        self._path: list[str] = []
        self._groups: list[_Group] = []
        self._elements = 0
        self._transactions = 0
        self._leaf: str | None = None
        self._text: list[str] = []
        self._length = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            self._faults.stop("/", f"the file has more than {MAX_ELEMENTS} elements; send several files")
        if not self._path:
            self._open_document(tag)
        # An element of another namespace keeps its full name, and so is never taken for one that is read.
        self._path.append(tag.removeprefix(self._prefix))
        if len(self._path) > MAX_DEPTH:
            self._faults.stop("/".join(["", *self._path[:4], "..."]), f"elements nest deeper than {MAX_DEPTH}")
        self._leaf = None
        if self._open_group() or not self._groups:
            return
        group = self._groups[-1]
        name = "/".join(self._path[group.depth :])
        if name not in group.wanted:
            return
        if name in group.texts:
            if name not in REPEATABLE:
                self._faults.add(f"{group.pointer}/{name}", "this element may stand only once")
            return
        self._leaf = name
        self._text.clear()
        self._length = 0
        if name == "Amt/InstdAmt":
            group.currency = attributes.get("Ccy")

    def data(self, text: str) -> None:
        """A piece of text; only that of the elements that are read is kept, and not much more than they may hold."""
        if self._leaf is not None and self._length <= 2 * 140:
            self._text.append(text)
            self._length += len(text)

    def end(self, tag: str) -> None:  # noqa: ARG002 - the parser vouches that it is the one that began last
        """An element ends."""
        if self._leaf is not None:
            group = self._groups[-1]
            text = " ".join("".join(self._text).split())
            group.texts[self._leaf] = text
            limit = group.wanted[self._leaf]
            if len(text) > limit:
                self._faults.add(f"{group.pointer}/{self._leaf}", f"the text is longer than {limit} characters")
            self._leaf = None
        self._path.pop()
        if self._groups and len(self._path) < self._groups[-1].depth:
            self._groups.pop()

    def close(self) -> None:
        """The document ended."""

    def _open_document(self, tag: str) -> None:
        namespace, _, name = tag.removeprefix("{").rpartition("}")
        match = _NAMESPACE.fullmatch(namespace)
        if name != "Document" or match is None or not (match["version"] == "03" or match["version"] >= "09"):
            self._faults.stop("/", "the root is not Document of pain.001.001.03, pain.001.001.09 or newer")
        self._prefix = f"{{{namespace}}}"

    def _open_group(self) -> bool:
        """Begin a new group if the current path is one's."""
        match self._path:
            case ["Document", "CstmrCdtTrfInitn", "GrpHdr"]:
                group = _Group(f"{INITIATION}/GrpHdr", HEADER, 3)
                if self.header is not None:
                    self._faults.add(group.pointer, "this element may stand only once")
                self.header = group
            case ["Document", "CstmrCdtTrfInitn", "PmtInf"]:
                if len(self.payments) == MAX_TRANSACTIONS:
                    self._faults.stop(INITIATION, f"the file has more than {MAX_TRANSACTIONS} payments")
                group = _Group(f"{INITIATION}/PmtInf[{len(self.payments) + 1}]", PAYMENT, 3)
                self.payments.append(group)
            case ["Document", "CstmrCdtTrfInitn", "PmtInf", "CdtTrfTxInf"]:
                self._transactions += 1
                if self._transactions > MAX_TRANSACTIONS:
                    self._faults.stop(INITIATION, f"the file has more than {MAX_TRANSACTIONS} transactions")
                payment = self.payments[-1]
                number = len(payment.transactions) + 1
                group = _Group(f"{payment.pointer}/CdtTrfTxInf[{number}]", TRANSACTION, 4)
                payment.transactions.append(group)
            case _:
                return False
        self._groups.append(group)
        return True


class _Check:
    """Judges what was read, noting every fault, and gives it its types."""

    def __init__(self, faults: _Faults) -> None:
        self._faults = faults
        self._seen: dict[str, str] = {}

    def file(self, header: _Group | None, payments: list[_Group]) -> PaymentFile:
        """Judge the file. The result is of use only if no fault was noted."""
        if header is None:
            header = _Group(f"{INITIATION}/GrpHdr", HEADER, 3)
            self._faults.add(header.pointer, "this element is missing")
        message_id = self._required(header, "MsgId")
        self._required(header, "CreDtTm")
        self._required(header, "NbOfTxs")
        party = next((header.texts[name] for name in header.wanted if "Othr" in name and header.texts.get(name)), None)
        if not party and not (party := header.texts.get("InitgPty/Nm")):
            self._faults.add(
                f"{header.pointer}/InitgPty", "the initiating party has neither an identification nor a name"
            )
        if not payments:
            self._faults.add(f"{INITIATION}/PmtInf", "this element is missing")
        transactions: list[CreditTransfer] = []
        for payment in payments:
            transactions += self._payment(payment)
        self._totals(header, [transaction for payment in payments for transaction in payment.transactions])
        return PaymentFile(initiating_party=party or "", message_id=message_id or "", transactions=tuple(transactions))

    def _payment(self, payment: _Group) -> list[CreditTransfer]:
        self._required(payment, "PmtInfId")
        method = self._required(payment, "PmtMtd")
        if method is not None and method != "TRF":
            self._faults.add(f"{payment.pointer}/PmtMtd", f"the method {method!r} is not served; only TRF is")
        debtor = self._account(payment, "DbtrAcct")
        if not payment.transactions:
            self._faults.add(f"{payment.pointer}/CdtTrfTxInf", "this element is missing")
        self._totals(payment, payment.transactions)
        return [
            transfer
            for transaction in payment.transactions
            if (transfer := self._transaction(transaction, debtor)) is not None
        ]

    def _transaction(self, group: _Group, debtor: AccountName | None) -> CreditTransfer | None:
        end_to_end_id = self._required(group, "PmtId/EndToEndId")
        if end_to_end_id is not None:
            first = self._seen.setdefault(end_to_end_id, group.pointer)
            if first != group.pointer:
                self._faults.add(f"{group.pointer}/PmtId/EndToEndId", f"{end_to_end_id!r} stands at {first} already")
        money = self._amount(group)
        creditor = self._account(group, "CdtrAcct")
        if end_to_end_id is None or money is None or creditor is None or debtor is None:
            return None
        currency, amount = money
        return CreditTransfer(
            end_to_end_id=end_to_end_id,
            debtor=debtor,
            creditor=creditor,
            currency=currency,
            amount=amount,
            remittance=group.texts.get("RmtInf/Ustrd", ""),
        )

    def _amount(self, group: _Group) -> tuple[Currency, int] | None:
        text = self._required(group, "Amt/InstdAmt")
        if text is None:
            return None
        pointer = f"{group.pointer}/Amt/InstdAmt"
        currency = group.currency or ""
        if not is_currency(currency):
            self._faults.add(f"{pointer}/@Ccy", f"{currency[:3]!r} is not a currency of this bank")
            return None
        try:
            return currency, parse_amount(text, currency)
        except MoneyError as error:
            self._faults.add(pointer, str(error))
            return None

    def _account(self, group: _Group, role: str) -> AccountName | None:
        iban, other = f"{role}/Id/IBAN", f"{role}/Id/Othr/Id"
        if text := group.texts.get(iban):
            if reason := why_not_iban(text):
                self._faults.add(f"{group.pointer}/{iban}", reason)
                return None
            return AccountName(text, is_iban=True)
        if text := group.texts.get(other):
            return AccountName(text, is_iban=False)
        self._faults.add(f"{group.pointer}/{role}", "the account has neither an IBAN nor another identification")
        return None

    def _totals(self, group: _Group, transactions: list[_Group]) -> None:
        """Compare NbOfTxs and CtrlSum, where they stand, with what is there. The sum is over all currencies alike."""
        count = group.texts.get("NbOfTxs")
        if count and (not _COUNT.fullmatch(count) or int(count) != len(transactions)):
            self._faults.add(f"{group.pointer}/NbOfTxs", f"it says {count!r}, and there are {len(transactions)}")
        stated = group.texts.get("CtrlSum")
        if not stated:
            return
        amounts = [transaction.texts.get("Amt/InstdAmt", "") for transaction in transactions]
        if not all(map(_SUM.fullmatch, amounts)):
            return  # noted at the amount
        with localcontext(prec=64):
            total = sum(map(Decimal, amounts), Decimal(0))
            if not _SUM.fullmatch(stated) or Decimal(stated) != total:
                self._faults.add(f"{group.pointer}/CtrlSum", f"it says {stated!r}, and the amounts add up to {total}")

    def _required(self, group: _Group, name: str) -> str | None:
        text = group.texts.get(name)
        if not text:
            self._faults.add(f"{group.pointer}/{name}", "this element is missing or empty")
            return None
        return text
