"""Every refusal of the bank, one class each: what the client is told (RFC 9457), and with which status.

409 says that the state of the bank stands against the request, 422 that the request itself cannot be right.
"""

from workhorse.errors import Problem

__all__ = [
    "AccountNotFound",
    "AdviceNotFound",
    "AlreadyReversed",
    "CreditorCannotRepay",
    "CurrencyMismatch",
    "DuplicateMessage",
    "InsufficientFunds",
    "IsReversal",
    "MalformedPaymentFile",
    "Overflow",
    "PageNotFound",
    "ReportNotFound",
    "SameAccount",
    "StandingOrderNotFound",
    "StartsInThePast",
    "TransferNotFound",
    "UnknownCreditor",
    "UnknownDebtor",
]


class AccountNotFound(Problem):
    """The path names no account."""

    status = 404
    type = "urn:bank:problem:account-not-found"
    title = "There is no such account"


class TransferNotFound(Problem):
    """The path names no transfer."""

    status = 404
    type = "urn:bank:problem:transfer-not-found"
    title = "There is no such transfer"


class AdviceNotFound(Problem):
    """The transfer has no advice, or not yet: it is written after the transfer has committed."""

    status = 404
    type = "urn:bank:problem:advice-not-found"
    title = "There is no such advice yet"


class StandingOrderNotFound(Problem):
    """The path names no standing order."""

    status = 404
    type = "urn:bank:problem:standing-order-not-found"
    title = "There is no such standing order"


class ReportNotFound(Problem):
    """The day is not over, nothing is known of it, or its report is still being made."""

    status = 404
    type = "urn:bank:problem:report-not-found"
    title = "There is no report of this day yet"


class PageNotFound(Problem):
    """The file of the day's statements has no such page."""

    status = 404
    type = "urn:bank:problem:page-not-found"
    title = "The day's file has no such page"


class UnknownDebtor(Problem):
    """The account to pay from does not exist."""

    status = 422
    type = "urn:bank:problem:unknown-debtor"
    title = "The debtor's account does not exist"


class UnknownCreditor(Problem):
    """The account to pay to does not exist."""

    status = 422
    type = "urn:bank:problem:unknown-creditor"
    title = "The creditor's account does not exist"


class SameAccount(Problem):
    """Debtor and creditor are one."""

    status = 422
    type = "urn:bank:problem:same-account"
    title = "Debtor and creditor are the same account"


class CurrencyMismatch(Problem):
    """An account is kept in another currency than the transfer's."""

    status = 422
    type = "urn:bank:problem:currency-mismatch"
    title = "Both accounts must be kept in the currency of the transfer"


class Overflow(Problem):
    """A balance would pass 2^53 - 1."""

    status = 422
    type = "urn:bank:problem:overflow"
    title = "The amount or the creditor's new balance is larger than this bank can hold"


class StartsInThePast(Problem):
    """The first day of a standing order is over."""

    status = 422
    type = "urn:bank:problem:starts-in-the-past"
    title = "A standing order starts today or later"


class InsufficientFunds(Problem):
    """The debtor's balance would fall below its floor."""

    status = 409
    type = "urn:bank:problem:insufficient-funds"
    title = "The debtor's balance does not cover the amount"


class CreditorCannotRepay(Problem):
    """The creditor of the transfer to reverse has spent the money."""

    status = 409
    type = "urn:bank:problem:creditor-cannot-repay"
    title = "The creditor's balance does not cover the amount to take back"


class AlreadyReversed(Problem):
    """A transfer is reversed once."""

    status = 409
    type = "urn:bank:problem:already-reversed"
    title = "The transfer has been reversed already"


class IsReversal(Problem):
    """A reversal is final."""

    status = 409
    type = "urn:bank:problem:is-reversal"
    title = "A reversal cannot be reversed; order a new transfer"


class MalformedPaymentFile(Problem):
    """The payment file breaks its format; `errors` lists where and how. Nothing of it was posted."""

    status = 422
    type = "urn:bank:problem:malformed-payment-file"
    title = "The payment file is malformed and was refused as a whole"


class DuplicateMessage(Problem):
    """The initiating party has sent a message with this MsgId before."""

    status = 409
    type = "urn:bank:problem:duplicate-message"
    title = "A payment file with this MsgId was taken in before"
