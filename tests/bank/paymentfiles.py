"""Writes payment files for the tests: valid by default, and wrong wherever a test says so."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from xml.sax.saxutils import escape

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
DEBTOR = "DE89370400440532013000"
CREDITOR = "GB29NWBK60161331926819"


def account(role: str, name: str) -> str:
    """An account by its IBAN, or by its number where it is one."""
    identification = f"<Othr><Id>{name}</Id></Othr>" if name.isdigit() else f"<IBAN>{escape(name)}</IBAN>"
    return f"<{role}><Id>{identification}</Id></{role}>"


@dataclass(frozen=True, kw_only=True)
class Transaction:
    end_to_end_id: str = "E2E-1"
    amount: str = "10.00"
    currency: str = "EUR"
    creditor: str = CREDITOR
    remittance: str = ""

    def xml(self) -> str:
        remittance = f"<RmtInf><Ustrd>{escape(self.remittance)}</Ustrd></RmtInf>" if self.remittance else ""
        return (
            f"<CdtTrfTxInf><PmtId><EndToEndId>{escape(self.end_to_end_id)}</EndToEndId></PmtId>"
            f'<Amt><InstdAmt Ccy="{self.currency}">{self.amount}</InstdAmt></Amt>'
            f"<Cdtr><Nm>Creditor</Nm></Cdtr>{account('CdtrAcct', self.creditor)}{remittance}</CdtTrfTxInf>"
        )


@dataclass(frozen=True, kw_only=True)
class Payment:
    transactions: Sequence[Transaction] = (Transaction(),)
    debtor: str = DEBTOR
    method: str = "TRF"
    count: str = ""
    total: str = ""

    def xml(self) -> str:
        count = f"<NbOfTxs>{self.count}</NbOfTxs>" if self.count else ""
        total = f"<CtrlSum>{self.total}</CtrlSum>" if self.total else ""
        return (
            f"<PmtInf><PmtInfId>P-1</PmtInfId><PmtMtd>{self.method}</PmtMtd>{count}{total}"
            f"<Dbtr><Nm>Debtor</Nm></Dbtr>{account('DbtrAcct', self.debtor)}"
            f"{''.join(transaction.xml() for transaction in self.transactions)}</PmtInf>"
        )


@dataclass(frozen=True, kw_only=True)
class File:
    payments: Sequence[Payment] = field(default_factory=lambda: (Payment(),))
    message_id: str = "M-1"
    party: str = "Acme"
    count: str | None = None
    total: str | None = None
    namespace: str = NAMESPACE

    def xml(self) -> bytes:
        transactions = [transaction for payment in self.payments for transaction in payment.transactions]
        count = str(len(transactions)) if self.count is None else self.count
        total = (
            str(sum(Decimal(transaction.amount) for transaction in transactions)) if self.total is None else self.total
        )
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="{self.namespace}"><CstmrCdtTrfInitn><GrpHdr>'
            f"<MsgId>{escape(self.message_id)}</MsgId><CreDtTm>2026-01-02T03:04:05</CreDtTm><NbOfTxs>{count}</NbOfTxs>"
            f"<CtrlSum>{total}</CtrlSum><InitgPty><Nm>{escape(self.party)}</Nm></InitgPty></GrpHdr>"
            f"{''.join(payment.xml() for payment in self.payments)}</CstmrCdtTrfInitn></Document>"
        ).encode()
