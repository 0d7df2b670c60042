import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.telemetry import (
    TraceParent,
    accept_request_id,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)
from workhorse.telemetry.trace import trace_id_of

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"
ALLOWED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."


def hexadecimal(length: int) -> st.SearchStrategy[bytes]:
    return st.text("0123456789abcdef", min_size=length, max_size=length).map(str.encode)


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (b"00-%b-%b-01" % (TRACE, SPAN), 1),
        (b"00-%b-%b-00" % (TRACE, SPAN), 0),
        (b"00-%b-%b-02" % (TRACE, SPAN), 2),
        (b"00-%b-%b-03" % (TRACE, SPAN), 3),
        (b"00-%b-%b-ff" % (TRACE, SPAN), 3),
        (b"00-%b-%b-09" % (TRACE, SPAN), 1),
        (b"cc-%b-%b-01" % (TRACE, SPAN), 1),
        (b"cc-%b-%b-01-what-the-future-will-be-like" % (TRACE, SPAN), 1),
        (b"01-%b-%b-01-" % (TRACE, SPAN), 1),
    ],
)
def test_a_well_formed_header_is_read(header: bytes, flags: int) -> None:
    assert parse_traceparent(header) == TraceParent(TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"-",
        b"---",
        b"00-%b-%b" % (TRACE, SPAN),
        b"00-%b-%b-" % (TRACE, SPAN),
        b"00-%b-%b-1" % (TRACE, SPAN),
        b"00-%b-%b-001" % (TRACE, SPAN),
        b"00-%b-%b-01-" % (TRACE, SPAN),
        b"00-%b-%b-01-what-the-future-will-be-like" % (TRACE, SPAN),
        b"00-%b-%b-01.what" % (TRACE, SPAN),
        b"cc-%b-%b-01.what-the-future-will-not-be-like" % (TRACE, SPAN),
        b"ff-%b-%b-01" % (TRACE, SPAN),
        b"0-%b-%b-01" % (TRACE, SPAN),
        b"000-%b-%b-01" % (TRACE, SPAN),
        b".0-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-.0" % (TRACE, SPAN),
        b"00-%b-%b-+1" % (TRACE, SPAN),
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-01" % (TRACE.upper(), SPAN),
        b"00-%b-%b-01" % (TRACE, SPAN.upper()),
        b"00-%b-%b-0A" % (TRACE, SPAN),
        b"0A-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01" % (TRACE[:-1], SPAN),
        b"00-%b-%b-01" % (TRACE + b"a", SPAN),
        b"00-%b-%b-01" % (TRACE, SPAN[:-1]),
        b"00-%b-%b-01" % (b"." + TRACE[1:], SPAN),
        b"00-%b-%b-01" % (b"-" + TRACE[1:], SPAN),
        b"00_%b_%b_01" % (TRACE, SPAN),
        b" 00-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01\n" % (TRACE, SPAN),
        b"00-%b-%b-01,00-%b-%b-01" % (TRACE, SPAN, TRACE, SPAN),
    ],
)
def test_a_malformed_header_is_treated_as_absent(header: bytes) -> None:
    assert parse_traceparent(header) is None


@given(hexadecimal(32), hexadecimal(16), st.booleans(), st.booleans())
def test_what_is_written_is_read_back(trace_id: bytes, span_id: bytes, sampled: bool, random: bool) -> None:  # noqa: FBT001 - Hypothesis fills them by name
    parent = parse_traceparent(format_traceparent(trace_id, span_id, sampled=sampled, random=random))
    if trace_id == b"0" * 32 or span_id == b"0" * 16:
        assert parent is None
    else:
        assert parent is not None
        assert parent[:2] == (trace_id, span_id)
        assert (parent.sampled, parent.random) == (sampled, random)


@given(st.binary(max_size=70) | st.text("0123456789abcdefAF-.", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_and_never_raise(value: bytes) -> None:
    assert isinstance(parse_traceparent(value), TraceParent | None)


def test_new_ids_differ_and_are_accepted_by_the_reader() -> None:
    headers = {format_traceparent(new_trace_id(), new_span_id(), sampled=True, random=True) for _ in range(1000)}
    assert len(headers) == 1000
    assert all(parse_traceparent(header) for header in headers)


@pytest.mark.parametrize("value", [b"a", b"a" * 128, b"0198c1a2-7e1f-7000-8000-000000000000", b"A_b-c.9"])
def test_a_harmless_request_id_is_kept(value: bytes) -> None:
    assert accept_request_id(value)


@pytest.mark.parametrize("value", [b"", b"a" * 129, b"a b", b"a\n", b"\x00", b"a;b", "ä".encode(), b"${jndi:x}", b"<"])
def test_any_other_request_id_is_not(value: bytes) -> None:
    assert not accept_request_id(value)


@given(st.binary(max_size=140))
def test_a_request_id_is_kept_exactly_when_every_byte_is_allowed(value: bytes) -> None:
    assert accept_request_id(value) == (0 < len(value) <= 128 and all(chr(byte) in ALLOWED for byte in value))


@given(
    st.one_of(
        st.binary(max_size=80),
        st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-x)?", fullmatch=True),
    )
)
def test_the_trace_id_alone_is_that_of_the_whole_header(header: bytes) -> None:
    parent = parse_traceparent(header)
    assert trace_id_of(header) == (parent.trace_id if parent is not None else None)


@pytest.mark.parametrize("trace", [b"0" * 32, TRACE])
@pytest.mark.parametrize("span", [b"0" * 16, SPAN])
def test_ids_of_zeros_are_no_trace_for_either(trace: bytes, span: bytes) -> None:
    header = b"00-%b-%b-01" % (trace, span)
    assert (trace_id_of(header) is None) is (parse_traceparent(header) is None) is (b"0" * 16 in (trace[:16], span))
