"""Each JSON value has one spelling: that of RFC 8785, with every digit."""

import json
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.audit.canonical import canonical_json, canonical_number
from workhorse.audit.faults import EntryRefused

# RFC 8785, appendix B: the double, and how it is written.
RFC_NUMBERS = {
    "0000000000000000": "0", "8000000000000000": "0", "0000000000000001": "5e-324", "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308", "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992", "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000", "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23", "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000", "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001", "41b3de4355555553": "333333333.3333332", "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333", "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333", "43143ff3c1cb0959": "1424953923781206.2",
}  # fmt: skip
EXACT = {
    "9007199254740993": "9007199254740993", "1.50": "1.5", "1e2": "100", "1E+2": "100", "100": "100", "-0": "0",
    "-0.00e9": "0", "0.1000000000000000055511151231257827": "0.1000000000000000055511151231257827",
    "123456789012345678901": "123456789012345678901", "1234567890123456789012": "1.234567890123456789012e+21",
    "1" + "0" * 400: "1e+400", "0." + "0" * 400 + "1": "1e-401", "12e-1": "1.2", "0.00001e5": "1", "-1e-7": "-1e-7",
    "1e1000000": "1e+1000000",
}  # fmt: skip

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize("bits", sorted(RFC_NUMBERS))
def test_a_double_is_written_as_rfc_8785_writes_it(bits: str) -> None:
    (double,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_number(json.dumps(double)) == RFC_NUMBERS[bits]


@pytest.mark.parametrize("number", sorted(EXACT))
def test_a_number_keeps_every_digit_and_has_one_spelling(number: str) -> None:
    assert canonical_number(number) == EXACT[number]


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_is_the_value_that_it_was(number: Decimal) -> None:
    written = canonical_number(str(number).replace("E", "e"))
    assert Decimal(written) == number
    assert canonical_number(written) == written


def test_an_object_is_written_as_in_the_example_of_rfc_8785() -> None:
    example = (
        '{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        ' "string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/", "literals": [null, true, false]}'
    )
    # The RFC rounds the first number to a double, 333333333.3333333.
    assert canonical_json(example).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.33333329,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_names_are_sorted_by_utf_16_as_in_rfc_8785() -> None:
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical_json(json.dumps(dict.fromkeys(names))))) == ordered
    assert canonical_json('{"a!":1,"a":2,"a\\"":3,"":4}') == b'{"":4,"a":2,"a!":1,"a\\"":3}'


@given(values, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_how_a_value_was_spelled_makes_no_difference(value: Any, ascii_only: bool, indent: Any) -> None:  # noqa: FBT001
    written = canonical_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent))
    assert written == canonical_json(json.dumps(value, separators=(",", ":"), sort_keys=True))
    assert canonical_json(written) == written
    assert exact(written) == exact(json.dumps(value))


@given(st.text(max_size=30) | st.text('{}[],:"\\ 0123456789eE+-.truefalsn\n', max_size=30))
def test_what_python_reads_as_json_is_read_alike_and_all_else_refused(text: str) -> None:
    try:
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=no_twice, parse_float=Decimal)
        text.encode()
    except (ValueError, RecursionError):
        with pytest.raises(EntryRefused):
            canonical_json(text)
        return
    assert json.loads(canonical_json(text), parse_float=Decimal, parse_int=Decimal) == value


def exact(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def refuse(constant: str) -> None:
    raise ValueError(constant)


def no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name comes twice")
    return dict(pairs)


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "}", "[1,]", "[,1]", "[1 2]", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}", '{"a":1 "b":2}', "{1:2}",
     "01", "+1",     ".5", "1.", "1e", "0x1", "NaN", "Infinity", "-Infinity", "nul", "truex", "1 2",
     '"', '"\\x"', '"\\u12"', '"\n"', '"\\\n"',
     '"\\ud800"', '{"\\udfff":1}', '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', "[1}", '{"a":1]', "1e1000001",
     "1e-99999999999999999999",
     "\ufeff1", "1\x00", "\u00a01", "--1", "1-1", "1e5e5", "\ud800"],
)  # fmt: skip
def test_what_has_no_single_meaning_is_refused(text: str) -> None:
    with pytest.raises(EntryRefused):
        canonical_json(text)


@pytest.mark.parametrize("raw", [b"\xff", b'"\xed\xa0\x80"', b'"\xc0\x80"'])
def test_bytes_that_are_not_utf_8_are_refused(raw: bytes) -> None:
    with pytest.raises(EntryRefused, match="UTF-8"):
        canonical_json(raw)


def test_no_depth_and_no_length_is_too_much() -> None:
    deep = "[" * 100_000 + "1" + "]" * 100_000
    assert canonical_json(deep).decode() == deep
    named = '{"a":' * 50_000 + '"' + "x" * 100_000 + '"' + "}" * 50_000
    assert canonical_json(named).decode() == named
    wide = json.dumps({f"{number:05d}": [{"b": "x" * 50, "a": number}] for number in range(2_000)})
    assert canonical_json(wide).decode() == json.dumps(json.loads(wide), separators=(",", ":"), sort_keys=True)
    long = "1" * 200_000
    assert canonical_json(long).decode() == f"1.{'1' * 199_999}e+199999"
