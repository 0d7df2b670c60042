import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bank import pain001
from bank.money import format_amount
from bank.pain001 import MAX_BYTES, MAX_FAULTS, MAX_TRANSACTIONS, AccountName, CreditTransfer, FileFaults, parse
from tests.bank.paymentfiles import CREDITOR, DEBTOR, NAMESPACE, File, Payment, Transaction

INITIATION = "/Document/CstmrCdtTrfInitn"
TRANSACTION = f"{INITIATION}/PmtInf[1]/CdtTrfTxInf[1]"


def faults_of(content: bytes) -> list[tuple[str, str]]:
    with pytest.raises(FileFaults) as refusal:
        parse(content)
    return [(fault.pointer, fault.reason) for fault in refusal.value.faults]


def of(**changes: str) -> File:
    """A file with one transaction, changed."""
    return File(payments=[Payment(transactions=[replace(Transaction(), **changes)])])


def test_a_file_of_version_03_is_read_to_the_last_field(samples: Path) -> None:
    file = parse((samples / "valid_03.xml").read_bytes())
    assert (file.initiating_party, file.message_id) == ("EXAMPLE-7", "PAYROLL-2026-01")
    debtor = AccountName(DEBTOR, is_iban=True)
    assert file.transactions == (
        CreditTransfer(
            end_to_end_id="SALARY-1",
            debtor=debtor,
            creditor=AccountName(CREDITOR, is_iban=True),
            currency="EUR",
            amount=210_050,
            remittance="Salary January",
        ),
        CreditTransfer(
            end_to_end_id="SALARY-2",
            debtor=debtor,
            creditor=AccountName("42", is_iban=False),
            currency="EUR",
            amount=210_025,
            remittance="",
        ),
        CreditTransfer(
            end_to_end_id="INVOICE-9",
            debtor=AccountName("7", is_iban=False),
            creditor=AccountName("NO9386011117947", is_iban=True),
            currency="JPY",
            amount=500,
            remittance="Invoice 9",
        ),
    )


def test_a_file_of_version_09_is_read_whatever_its_prefix_and_white_space(samples: Path) -> None:
    file = parse((samples / "valid_09.xml").read_bytes())
    assert file.initiating_party == "Müller & Söhne"
    (transfer,) = file.transactions
    assert (transfer.amount, transfer.currency, transfer.remittance) == (12_345, "KWD", "Two lines")


@pytest.mark.parametrize("version", ["03", "09", "10", "12"])
def test_a_known_or_newer_version_is_read(version: str) -> None:
    assert len(parse(File(namespace=NAMESPACE[:-2] + version).xml()).transactions) == 1


@pytest.mark.parametrize(
    "namespace",
    [
        NAMESPACE[:-2] + "02",
        NAMESPACE[:-2] + "08",
        NAMESPACE + "0",
        "urn:iso:std:iso:20022:tech:xsd:pain.008.001.09",
        "",
    ],
)
def test_another_namespace_is_refused(namespace: str) -> None:
    assert faults_of(File(namespace=namespace).xml()) == [
        ("/", "the root is not Document of pain.001.001.03, pain.001.001.09 or newer")
    ]


@pytest.mark.parametrize("name", ["hostile_billion_laughs", "hostile_external_entity", "hostile_external_dtd"])
def test_a_document_type_is_refused_at_once(name: str, samples: Path) -> None:
    ((pointer, reason),) = faults_of((samples / f"{name}.xml").read_bytes())
    assert pointer == "/"
    assert "document type" in reason


def test_all_faults_of_a_file_are_told_at_once(samples: Path) -> None:
    payment = f"{INITIATION}/PmtInf[1]"
    assert [pointer for pointer, _ in faults_of((samples / "malformed_many_faults.xml").read_bytes())] == [
        f"{INITIATION}/GrpHdr/InitgPty",
        f"{payment}/PmtMtd",
        f"{payment}/DbtrAcct/Id/IBAN",
        f"{payment}/NbOfTxs",
        f"{payment}/CdtTrfTxInf[1]/Amt/InstdAmt",
        f"{payment}/CdtTrfTxInf[2]/PmtId/EndToEndId",
        f"{payment}/CdtTrfTxInf[2]/Amt/InstdAmt/@Ccy",
        f"{payment}/CdtTrfTxInf[2]/CdtrAcct",
        f"{payment}/CdtTrfTxInf[3]/PmtId/EndToEndId",
        f"{payment}/CdtTrfTxInf[3]/Amt/InstdAmt",
        f"{INITIATION}/PmtInf[2]/PmtInfId",
        f"{INITIATION}/PmtInf[2]/PmtMtd",
        f"{INITIATION}/PmtInf[2]/DbtrAcct",
        f"{INITIATION}/PmtInf[2]/CdtTrfTxInf",
        f"{INITIATION}/GrpHdr/NbOfTxs",
    ]


ONE_FAULT = {
    "too many announced": (File(count="2"), f"{INITIATION}/GrpHdr/NbOfTxs", "it says '2', and there are 1"),
    "a count in other digits": (File(count="\u0661"), f"{INITIATION}/GrpHdr/NbOfTxs", "there are 1"),
    "no count": (File(count=""), f"{INITIATION}/GrpHdr/NbOfTxs", "missing or empty"),
    "a wrong sum": (File(total="10.01"), f"{INITIATION}/GrpHdr/CtrlSum", "add up to 10.00"),
    "a sum that is none": (File(total="ten"), f"{INITIATION}/GrpHdr/CtrlSum", "it says 'ten'"),
    "a wrong count of a payment": (File(payments=[Payment(count="3")]), f"{INITIATION}/PmtInf[1]/NbOfTxs", "are 1"),
    "a wrong sum of a payment": (File(payments=[Payment(total="9.99")]), f"{INITIATION}/PmtInf[1]/CtrlSum", "10.00"),
    "no message id": (File(message_id=""), f"{INITIATION}/GrpHdr/MsgId", "missing or empty"),
    "a message id of 36 characters": (File(message_id="m" * 36), f"{INITIATION}/GrpHdr/MsgId", "longer than 35"),
    "no party": (File(party=""), f"{INITIATION}/GrpHdr/InitgPty", "neither an identification nor a name"),
    "no payment": (File(payments=[], total="0"), f"{INITIATION}/PmtInf", "missing"),
    "no transaction": (
        File(payments=[Payment(transactions=[])], total="0"),
        f"{INITIATION}/PmtInf[1]/CdtTrfTxInf",
        "missing",
    ),
    "a cheque": (File(payments=[Payment(method="CHK")]), f"{INITIATION}/PmtInf[1]/PmtMtd", "only TRF"),
    "a debtor with wrong check digits": (
        File(payments=[Payment(debtor="DE88370400440532013000")]),
        f"{INITIATION}/PmtInf[1]/DbtrAcct/Id/IBAN",
        "check digits 88",
    ),
    "a creditor with wrong check digits": (
        of(creditor="GB28NWBK60161331926819"),
        f"{TRANSACTION}/CdtrAcct/Id/IBAN",
        "check digits 28",
    ),
    "a creditor in words": (of(creditor="Bob"), f"{TRANSACTION}/CdtrAcct/Id/IBAN", "two letters"),
    "no creditor": (of(creditor=""), f"{TRANSACTION}/CdtrAcct", "neither an IBAN"),
    "cents of a yen": (of(currency="JPY"), f"{TRANSACTION}/Amt/InstdAmt", "JPY has 0"),
    "tenths of a cent": (of(amount="1.005"), f"{TRANSACTION}/Amt/InstdAmt", "EUR has 2"),
    "nothing": (of(amount="0.00"), f"{TRANSACTION}/Amt/InstdAmt", "zero"),
    "more than there is": (of(amount="999999999999999.99"), f"{TRANSACTION}/Amt/InstdAmt", "above the largest"),
    "a negative amount": (
        replace(of(amount="-5"), total=""),
        f"{TRANSACTION}/Amt/InstdAmt",
        "not an amount",
    ),
    "an unknown currency": (of(currency="XAU"), f"{TRANSACTION}/Amt/InstdAmt/@Ccy", "'XAU' is not a currency"),
    "no end-to-end id": (of(end_to_end_id=""), f"{TRANSACTION}/PmtId/EndToEndId", "missing or empty"),
    "a long remittance": (of(remittance="r" * 141), f"{TRANSACTION}/RmtInf/Ustrd", "longer than 140"),
    "an end-to-end id twice": (
        File(payments=[Payment(transactions=[Transaction(), Transaction()])]),
        f"{INITIATION}/PmtInf[1]/CdtTrfTxInf[2]/PmtId/EndToEndId",
        f"'E2E-1' stands at {TRANSACTION} already",
    ),
}


@pytest.mark.parametrize(("file", "pointer", "reason"), ONE_FAULT.values(), ids=list(ONE_FAULT))
def test_one_fault_is_told_with_its_place_and_reason(file: File, pointer: str, reason: str) -> None:
    ((at, why),) = faults_of(file.xml())
    assert at == pointer
    assert reason in why


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not well-formed"),
        (b"<", "not well-formed"),
        (File().xml()[:-1], "not well-formed"),
        (b"{}", "not well-formed"),
        (b"\x00\xff\xfe", "not well-formed"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "encoding"),
        (b'<?xml version="1.0" encoding="utf-7"?><a/>', "encoding"),
        (b" " * (MAX_BYTES + 1), f"{MAX_BYTES} are allowed"),
        (File().xml().replace(b"<Cdtr>", b"<a>" * 40 + b"</a>" * 40 + b"<Cdtr>"), "deeper than 32"),
        (File().xml().replace(b"<Cdtr>", b"<a>" * 1_000_000 + b"<Cdtr>"), "deeper than 32"),
        (File().xml().replace(b"<Cdtr>", b"<a/>" * 600_000 + b"<Cdtr>"), "more than 500000 elements"),
        (File().xml().replace(b"<PmtMtd>TRF", b"<PmtMtd>TRF</PmtMtd><PmtMtd>TRF"), "only once"),
        (File().xml().replace(b"</GrpHdr>", b"</GrpHdr><GrpHdr/>"), "only once"),
    ],
    ids=[
        "nothing",
        "one bracket",
        "a cut file",
        "JSON",
        "bytes",
        "an unknown encoding",
        "an odd encoding",
        "too many bytes",
        "40 levels",
        "a million levels",
        "600,000 elements",
        "an element twice",
        "two headers",
    ],
)
def test_what_is_no_payment_file_is_refused_within_its_bounds(content: bytes, reason: str) -> None:
    before = time.process_time()
    assert any(reason in why for _, why in faults_of(content))
    assert time.process_time() - before < 20


def many(number: int, **changes: str) -> Sequence[Transaction]:
    return [replace(Transaction(), end_to_end_id=f"E-{place}", **changes) for place in range(number)]


def test_the_largest_file_is_read() -> None:
    file = parse(File(payments=[Payment(transactions=many(MAX_TRANSACTIONS))]).xml())
    assert len(file.transactions) == MAX_TRANSACTIONS


def test_one_transaction_too_many_is_refused() -> None:
    ((pointer, reason),) = faults_of(File(payments=[Payment(transactions=many(MAX_TRANSACTIONS + 1))]).xml())
    assert (pointer, reason) == (INITIATION, "the file has more than 10000 transactions")


def test_no_more_than_a_hundred_faults_are_told() -> None:
    faults = faults_of(File(payments=[Payment(transactions=many(500, amount="1.001"))]).xml())
    assert len(faults) == MAX_FAULTS


def test_amounts_are_added_without_rounding() -> None:
    amounts = ["90071992547409.91"] * 3 + ["0.01"]
    transactions = [Transaction(end_to_end_id=str(n), amount=amount) for n, amount in enumerate(amounts)]
    assert (
        len(parse(File(payments=[Payment(transactions=transactions)], total="270215977642229.74").xml()).transactions)
        == 4
    )


names = st.text(
    st.characters(blacklist_categories=("Cc", "Cs", "Zs", "Zl", "Zp", "Cn"), max_codepoint=0xFFFD), min_size=1
)


@given(
    st.lists(st.tuples(st.integers(1, 10**12), names.map(lambda name: name[:30])), min_size=1, max_size=20),
    names.map(lambda name: name[:35]),
)
def test_what_is_written_is_read_back(wishes: list[tuple[int, str]], message_id: str) -> None:
    transactions = [
        Transaction(end_to_end_id=f"E-{place}", amount=format_amount(amount, "EUR"), remittance=remittance)
        for place, (amount, remittance) in enumerate(wishes)
    ]
    file = parse(File(payments=[Payment(transactions=transactions)], message_id=message_id).xml())
    assert file.message_id == message_id
    assert [(transfer.amount, transfer.remittance) for transfer in file.transactions] == wishes


NODES = {
    segment
    for names_of_group in (pain001.HEADER, pain001.PAYMENT, pain001.TRANSACTION)
    for name in names_of_group
    for segment in name.split("/")
} | {"GrpHdr", "PmtInf", "CdtTrfTxInf"}

fragments = st.sampled_from(
    [f"<{name}>" for name in sorted(NODES)]
    + [f"</{name}>" for name in sorted(NODES)]
    + ["<!DOCTYPE a>", "<![CDATA[", "]]>", "<!--", "-->", "<?x?>", "&amp;", "&x;", "&#0;", "&#x110000;", "\x00", '"']
)


@settings(max_examples=300)
@given(st.data())
def test_a_mutilated_file_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    content = bytearray(File(payments=[Payment(transactions=many(3))] * 2).xml())
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 40)))
        content[start:end] = data.draw(
            st.binary(max_size=8) | fragments.map(str.encode) | st.text(max_size=8).map(str.encode)
        )
    try:
        file = parse(bytes(content))
    except FileFaults as error:
        refusal = error
    else:
        assert len(file.transactions) <= 6
        return
    assert 1 <= len(refusal.faults) <= MAX_FAULTS


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.lists(fragments, max_size=30).map(lambda parts: "".join(parts).encode()))
def test_any_bytes_are_refused_and_nothing_else_is_raised(content: bytes) -> None:
    assert faults_of(content)


# A text, or an element and what is in it.
Tree: TypeAlias = "str | tuple[str, list[Tree]]"


def grow(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.tuples(st.sampled_from(sorted(NODES)), st.lists(inner, max_size=5))


leaves: st.SearchStrategy[Tree] = st.text(max_size=5)
trees = st.recursive(leaves, grow)


@settings(max_examples=100)
@given(trees)
def test_any_tree_of_known_elements_is_refused_with_places(tree: Tree) -> None:
    content = f'<Document xmlns="{NAMESPACE}"><CstmrCdtTrfInitn>{render(tree)}</CstmrCdtTrfInitn></Document>'
    for pointer, _ in faults_of(content.encode("utf-8", "replace")):
        assert pointer == "/" or pointer.startswith("/Document")


def render(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    name, children = tree
    return f"<{name}>{''.join(map(render, children))}</{name}>"
