"""What a proxy says counts from a trusted peer only, and what a client wrote itself never counts."""

from ipaddress import ip_address, ip_network
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.asgi_client import http_scope
from workhorse.errors import SettingsError
from workhorse.guard.checks.proxies import MAX_CACHED, MAX_HOPS, Proxies, certificate, compile_proxies
from workhorse.guard.facts import Facts, read_facts

CHAIN = ("10.0.0.0/8", "2001:db8::/32", "unix")
FOR, PROTO, HOST = "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"
EDGE = "10.0.0.1"
Header = tuple[str, str]


def read(
    headers: list[Header],
    *,
    peer: str = EDGE,
    kind: Literal["x-forwarded", "forwarded"] = "x-forwarded",
    networks: tuple[str, ...] = CHAIN,
    scheme: str = "http",
    certificate_header: str = "",
) -> tuple[Facts, str]:
    """The facts after the check, and the control that refused, if any."""
    proxies = Proxies(compile_proxies(networks=networks, header=kind, certificate_header=certificate_header))
    client = (peer, 40000) if peer else None
    facts = read_facts(http_scope("GET", "/", headers, client=client, scheme=scheme))
    refusal = proxies.check(facts)
    return facts, refusal.control if refusal is not None else ""


def seen(headers: list[Header], *, kind: Literal["x-forwarded", "forwarded"] = "x-forwarded", peer: str = EDGE) -> str:
    facts, control = read(headers, kind=kind, peer=peer)
    if control:
        assert control == "proxies.malformed"
        return "400"
    assert facts.host is not None
    return f"{facts.client} {'https' if facts.tls else 'http'} {facts.host.decode()}"


LISTS: list[tuple[str, list[Header], str]] = [
    ("nothing said", [], "10.0.0.1 http localhost"),
    ("one address", [(FOR, "203.0.113.7")], "203.0.113.7 http localhost"),
    (
        "address, scheme, host",
        [(FOR, "203.0.113.7"), (PROTO, "https"), (HOST, "a.example")],
        "203.0.113.7 https a.example",
    ),
    ("scheme without address", [(PROTO, "https")], "10.0.0.1 https localhost"),
    ("two trusted hops", [(FOR, "203.0.113.7, 10.9.9.9")], "203.0.113.7 http localhost"),
    ("forged left of the client", [(FOR, "10.0.0.5, 6.6.6.6, 203.0.113.7")], "203.0.113.7 http localhost"),
    ("forged, and two trusted hops", [(FOR, "6.6.6.6, 203.0.113.7,10.9.9.9")], "203.0.113.7 http localhost"),
    ("forged rubbish", [(FOR, '<script>\\", ;;, 203.0.113.7')], "203.0.113.7 http localhost"),
    ("forged empty elements", [(FOR, ",,, 203.0.113.7")], "203.0.113.7 http localhost"),
    ("forged in a line of its own", [(FOR, "6.6.6.6"), (FOR, "203.0.113.7")], "203.0.113.7 http localhost"),
    ("two lines are one list", [(FOR, "203.0.113.7"), ("x", "y"), (FOR, "10.9.9.9")], "203.0.113.7 http localhost"),
    ("all trusted", [(FOR, "10.1.1.1, 10.2.2.2")], "10.1.1.1 http localhost"),
    ("tabs and blanks", [(FOR, "6.6.6.6 ,\t 203.0.113.7 \t")], "203.0.113.7 http localhost"),
    ("with port", [(FOR, "203.0.113.7:51234")], "203.0.113.7 http localhost"),
    ("bare IPv6", [(FOR, "2A00:1450::0001")], "2a00:1450::1 http localhost"),
    ("bracketed IPv6", [(FOR, "[2a00:1450::1]")], "2a00:1450::1 http localhost"),
    ("bracketed IPv6 with port", [(FOR, "[2a00:1450::1]:443")], "2a00:1450::1 http localhost"),
    ("IPv4 mapped into IPv6", [(FOR, "::ffff:203.0.113.7")], "203.0.113.7 http localhost"),
    ("a trusted hop mapped into IPv6", [(FOR, "203.0.113.7, ::ffff:10.9.9.9")], "203.0.113.7 http localhost"),
    ("unknown", [(FOR, "unknown")], "unknown http localhost"),
    ("hidden", [(FOR, "10.0.0.5, _gazonk")], "_gazonk http localhost"),
    ("trusted IPv6 hop", [(FOR, "203.0.113.7, 2001:db8::9")], "203.0.113.7 http localhost"),
    ("scheme in upper case", [(PROTO, "HTTPS")], "10.0.0.1 https localhost"),
    ("scheme of a WebSocket", [(PROTO, "wss")], "10.0.0.1 https localhost"),
    ("forged scheme left of the peer's", [(PROTO, "https, http")], "10.0.0.1 http localhost"),
    ("rubbish left of the peer's scheme", [(PROTO, "gopher,\x01,https")], "10.0.0.1 https localhost"),
    ("forged host left of the peer's", [(HOST, "evil.example, a.example")], "10.0.0.1 http a.example"),
    ("host with port", [(HOST, "a.example:8443")], "10.0.0.1 http a.example:8443"),
    ("IPv6 host", [(HOST, "[::1]:8443")], "10.0.0.1 http [::1]:8443"),
    ("the other kind is not read", [("forwarded", "for=6.6.6.6;proto=https;host=evil")], "10.0.0.1 http localhost"),
    ("X-Real-IP is not read", [("x-real-ip", "6.6.6.6")], "10.0.0.1 http localhost"),
    ("empty list", [(FOR, "")], "400"),
    ("empty last element", [(FOR, "203.0.113.7,")], "400"),
    ("a name", [(FOR, "localhost")], "400"),
    ("octal IPv4", [(FOR, "0177.0.0.1")], "400"),
    ("short IPv4", [(FOR, "127.1")], "400"),
    ("number out of range", [(FOR, "203.0.113.256")], "400"),
    ("port of six digits", [(FOR, "203.0.113.7:123456")], "400"),
    ("IPv6 with a zone", [(FOR, "fe80::1%eth0")], "400"),
    ("IPv6 half bracketed", [(FOR, "[2a00::1")], "400"),
    ("superscript digit", [(FOR, "203.0.113.\xb2")], "400"),
    ("quoted", [(FOR, '"203.0.113.7"')], "400"),
    ("malformed behind a trusted hop", [(FOR, "x, 10.9.9.9")], "400"),
    ("unknown scheme", [(PROTO, "ftp")], "400"),
    ("empty scheme", [(PROTO, "")], "400"),
    ("schemes that end in nothing", [(PROTO, "https,")], "400"),
    ("host with a path", [(HOST, "a.example/x")], "400"),
    ("host with user info", [(HOST, "user@a.example")], "400"),
    ("empty host", [(HOST, "")], "400"),
    ("host with a line break", [(HOST, "a.example\r\nx: y")], "400"),
]


@pytest.mark.parametrize(("headers", "expected"), [row[1:] for row in LISTS], ids=[row[0] for row in LISTS])
def test_x_forwarded_from_a_trusted_peer(headers: list[Header], expected: str) -> None:
    assert seen(headers) == expected


ELEMENTS: list[tuple[str, list[str], str]] = [
    ("one element", ["for=203.0.113.7;proto=https;host=a.example"], "203.0.113.7 https a.example"),
    ("names in any case", ["For=203.0.113.7;PROTO=HTTPS"], "203.0.113.7 https localhost"),
    ("quoted IPv6 with port", ['for="[2a00:1450::1]:4711"'], "2a00:1450::1 http localhost"),
    ("quoted host with port", ['for=203.0.113.7;host="a.example:8443"'], "203.0.113.7 http a.example:8443"),
    ("further parameters", ['for=203.0.113.7;by="_edge, 1";secret=x'], "203.0.113.7 http localhost"),
    ("forged left of the client", ["for=6.6.6.6;proto=https, for=203.0.113.7"], "203.0.113.7 http localhost"),
    (
        "scheme and host of the client's own element",
        ["for=203.0.113.7;proto=https;host=a.example, for=10.9.9.9;proto=http;host=inner"],
        "203.0.113.7 https a.example",
    ),
    (
        "in lines of their own",
        ["for=6.6.6.6", "for=203.0.113.7;proto=https", "for=10.9.9.9"],
        "203.0.113.7 https localhost",
    ),
    ("an open quote swallows nothing", ['for="6.6.6.6', "for=203.0.113.7"], "203.0.113.7 http localhost"),
    ("an open quote before a quoted address", ['for="6.6.6.6', 'for="[2a00::1]"'], "2a00::1 http localhost"),
    (
        "a forged quote that ends in an escape",
        ['for="\\', 'for=203.0.113.7;host="a.example"'],
        "203.0.113.7 http a.example",
    ),
    ("forged rubbish", ["=;,==\\", "for=203.0.113.7"], "203.0.113.7 http localhost"),
    ("unknown", ["for=unknown"], "unknown http localhost"),
    ("hidden, with a hidden port", ['for="_hidden:_port"'], "_hidden http localhost"),
    ("blanks", [" \tfor=203.0.113.7 ; proto=https "], "203.0.113.7 https localhost"),
    ("an element without for", ["proto=https"], "400"),
    ("for twice", ["for=203.0.113.7;for=6.6.6.6"], "400"),
    ("host twice, in another case", ["for=203.0.113.7;host=a;Host=b"], "400"),
    ("an escape", ['for=203.0.113.7;host="a\\"b"'], "400"),
    ("an escape behind a forged element", ['for=6.6.6.6;x="', 'for=203.0.113.7;host="a\\", for=6.6.6.6;x="'], "400"),
    ("an unquoted port", ["for=203.0.113.7:80"], "400"),
    ("unquoted IPv6", ["for=[2a00::1]"], "400"),
    ("empty", [""], "400"),
    ("an empty last element", ["for=203.0.113.7,"], "400"),
    ("an empty parameter", ["for=203.0.113.7;"], "400"),
    ("unknown scheme", ["for=203.0.113.7;proto=file"], "400"),
    ("a value without a name", ["203.0.113.7"], "400"),
]


@pytest.mark.parametrize(("lines", "expected"), [row[1:] for row in ELEMENTS], ids=[row[0] for row in ELEMENTS])
def test_forwarded_from_a_trusted_peer(lines: list[str], expected: str) -> None:
    assert seen([("forwarded", line) for line in lines], kind="forwarded") == expected


EVERYTHING = [
    (FOR, "203.0.113.7"),
    (PROTO, "https"),
    (HOST, "evil.example"),
    ("forwarded", "for=203.0.113.7;proto=https;host=evil.example"),
    ("x-client-cert", ":AAAA:"),
]


@pytest.mark.parametrize("kind", ["x-forwarded", "forwarded"])
@pytest.mark.parametrize("peer", ["198.51.100.1", "11.0.0.1", "::1", "testclient", "10.0.0.1.evil.example", ""])
def test_an_untrusted_peer_is_the_client_whatever_it_says(kind: Literal["x-forwarded", "forwarded"], peer: str) -> None:
    networks = ("10.0.0.0/8",)
    headers = [*EVERYTHING, (FOR, "]["), ("forwarded", '="')]
    facts, control = read(headers, peer=peer, kind=kind, networks=networks, certificate_header="x-client-cert")
    assert (control, facts.client, facts.tls, facts.host, facts.trusted) == ("", peer, False, b"localhost", False)
    rules = compile_proxies(networks=networks, header=kind, certificate_header="x-client-cert")
    assert certificate(rules, facts) is None


def test_by_default_nobody_is_trusted() -> None:
    facts, control = read(EVERYTHING, peer="127.0.0.1", networks=())
    assert (control, facts.client, facts.tls, facts.host) == ("", "127.0.0.1", False, b"localhost")


@pytest.mark.parametrize(
    ("peer", "networks"),
    [("", ("unix",)), ("10.1.2.3", ("10.0.0.0/8",)), ("::ffff:10.1.2.3", ("10.0.0.0/8",)), ("::1", ("::1",))],
    ids=["a Unix socket", "a network", "a network, seen by a socket of both families", "an address"],
)
def test_a_trusted_peer_is_believed(peer: str, networks: tuple[str, ...]) -> None:
    facts, control = read([(FOR, "203.0.113.7")], peer=peer, networks=networks)
    assert (control, facts.client, facts.trusted) == ("", "203.0.113.7", True)


def test_a_proxy_that_speaks_tls_to_us_may_say_that_its_client_did_not() -> None:
    facts, _ = read([(PROTO, "http")], scheme="https")
    assert not facts.tls


def test_at_most_so_many_trusted_hops_are_followed() -> None:
    hops = ", ".join(["10.9.9.9"] * (MAX_HOPS - 1))
    assert seen([(FOR, f"203.0.113.7, {hops}")]) == "203.0.113.7 http localhost"
    assert seen([(FOR, f"203.0.113.7, 10.9.9.9, {hops}")]) == "400"
    elements = ", ".join(["for=10.9.9.9"] * (MAX_HOPS - 1))
    assert seen([("forwarded", f"for=203.0.113.7, {elements}")], kind="forwarded") == "203.0.113.7 http localhost"
    assert seen([("forwarded", f"for=203.0.113.7, for=10.9.9.9, {elements}")], kind="forwarded") == "400"


def test_what_is_remembered_is_bounded_and_does_not_change_the_answer() -> None:
    proxies = Proxies(compile_proxies(networks=("10.0.0.0/8",)))
    for turn in range(2):
        for number in range(3 * MAX_CACHED):
            address = f"203.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            scope = http_scope("GET", "/", [(FOR, address)], client=(EDGE, 1))
            facts = read_facts(scope)
            assert proxies.check(facts) is None
            assert facts.client == address, turn
    assert len(proxies._said) <= MAX_CACHED
    assert len(proxies._older_said) <= MAX_CACHED
    for number in range(3 * MAX_CACHED):
        facts = read_facts(http_scope("GET", "/", client=(f"2001:db8::{number:x}", 1)))
        proxies.check(facts)
        assert not facts.trusted
    assert len(proxies._peers) + len(proxies._older_peers) <= 2 * MAX_CACHED


def test_long_values_are_not_remembered() -> None:
    proxies = Proxies(compile_proxies(networks=("10.0.0.0/8",)))
    for forged_part in ("6.6.6.6", "x" * 300):
        facts = read_facts(http_scope("GET", "/", [(FOR, f"{forged_part}, 203.0.113.7")], client=(EDGE, 1)))
        assert proxies.check(facts) is None
        assert facts.client == "203.0.113.7"
    assert list(proxies._said) == [b"6.6.6.6, 203.0.113.7"]


CERTIFICATE = ("x-client-cert", ":MIIB:")


def test_a_certificate_counts_from_a_trusted_peer_only_and_only_once() -> None:
    rules = compile_proxies(networks=("10.0.0.0/8",), certificate_header="X-Client-Cert")
    trusted, _ = read([CERTIFICATE], certificate_header="x-client-cert")
    assert certificate(rules, trusted) == b":MIIB:"
    without, _ = read([], certificate_header="x-client-cert")
    assert certificate(rules, without) is None
    forged, _ = read([CERTIFICATE], peer="198.51.100.1", certificate_header="x-client-cert")
    assert certificate(rules, forged) is None
    _, control = read([CERTIFICATE, CERTIFICATE], certificate_header="x-client-cert")
    assert control == "proxies.malformed"
    assert certificate(compile_proxies(networks=("10.0.0.0/8",)), trusted) is None


WRONG = [
    ({"networks": ("10.0.0.1/8",)}, "10.0.0.1/8.*host bits"),
    ({"networks": ("everybody",)}, "'everybody', which is not a network"),
    ({"networks": ("*",)}, "is not a network"),
    ({"networks": ("10.0.0.0/33",)}, "is not a network"),
    ({"networks": ("0.0.0.0/0",)}, "which is everybody"),
    ({"networks": ("::/0",)}, "which is everybody"),
    ({"networks": ("0.0.0.0/1", "128.0.0.0/1")}, "'0.0.0.0/1', which is everybody, or nearly"),
    ({"networks": ("::/1",)}, "which is everybody, or nearly"),
    ({"networks": tuple(f"{number}.0.0.0/8" for number in range(32))}, "together are 0.0.0.0/3"),
    ({"networks": ("10.0.0.0/8",), "certificate_header": "a b"}, "client_certificate_header is 'a b'"),
    ({"networks": ("10.0.0.0/8",), "certificate_header": "Authorization"}, "write the name of the header"),
    ({"certificate_header": "x-client-cert"}, "no proxy is trusted to send it"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_setting_is_refused_at_start_up(options: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        compile_proxies(**options)  # type: ignore[arg-type]  # a table of wrong ones


forged = st.lists(
    st.one_of(
        st.ip_addresses().map(str),
        st.sampled_from(
            ["10.0.0.1", "for=10.0.0.1", 'for="', "unknown", "", ",,", "for=6.6.6.6;proto=https;host=evil"]
        ),
        st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20),
    ),
    max_size=6,
)
clients = st.ip_addresses(v=4, network="203.0.112.0/20").map(str) | st.ip_addresses(v=6, network="2a00::/16").map(str)
hops = st.lists(st.ip_addresses(v=4, network="10.0.0.0/8").map(str), max_size=4)


schemes = st.sampled_from(["http", "https"])


@given(forged, clients, hops, schemes)
@example(["10.0.0.1"], "203.0.113.7", [], "http")
def test_whatever_a_client_forges_the_result_is_the_same(
    left: list[str], client: str, right: list[str], scheme: str
) -> None:
    expected = f"{client} {scheme} localhost"
    proto = (PROTO, "https, " * len(left) + scheme)
    for lines in ([*left, client, *right], [*left, ", ".join([client, *right])], [",".join([*left, client, *right])]):
        assert seen([*((FOR, line) for line in lines), proto]) == expected


@given(forged, clients, hops, schemes)
def test_whatever_a_client_forges_in_forwarded_the_result_is_the_same(
    left: list[str], client: str, right: list[str], scheme: str
) -> None:
    node = f'"[{client}]:443"' if ":" in client else client
    written = [f"for={node};proto={scheme};host=a.example", *(f"for={hop};proto=http" for hop in right)]
    assert seen([("forwarded", line) for line in [*left, *written]], kind="forwarded") == f"{client} {scheme} a.example"


@given(st.text(st.characters(codec="latin-1"), max_size=60), st.sampled_from([FOR, PROTO, HOST, "forwarded"]))
def test_a_trusted_proxy_that_says_anything_is_understood_or_refused(value: str, name: str) -> None:
    kind: Literal["x-forwarded", "forwarded"] = "forwarded" if name == "forwarded" else "x-forwarded"
    facts, control = read([(name, value)], kind=kind)
    if not control and name in {FOR, "forwarded"}:
        assert facts.client.startswith(("_", "unknown")) or str(ip_address(facts.client)) == facts.client
    if control:
        assert control == "proxies.malformed"


@given(st.ip_addresses(), st.ip_addresses())
def test_a_peer_is_trusted_exactly_where_it_is_in_the_network(first: object, second: object) -> None:
    network = ip_network(f"{first}/{48 if ':' in str(first) else 12}", strict=False)
    facts, _ = read([], peer=str(second), networks=(str(network),))
    plain = ip_address(str(second))
    mapped = getattr(plain, "ipv4_mapped", None)
    assert facts.trusted == ((mapped or plain) in network)
