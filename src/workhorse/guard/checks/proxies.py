"""What proxies in front say of the client: taken from those that are trusted, and from nobody else.

Each proxy of a chain appends what it saw to the right of what it was sent. So only the right end of such a list is
worth anything: it was written by the peer. It is read towards the left for as long as it names trusted proxies, which
wrote the next element each, and the first address that is not trusted is the client. Whatever stands further left was
sent by the client, which can write what it likes there; it is not even parsed, so that it cannot break anything.

The readers of the two kinds of header are pure; `Proxies` keeps what they said of the last header values, because the
clients of a service send the same few over and over.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Final, Literal, NamedTuple

from workhorse.errors import SettingsError
from workhorse.guard.facts import Facts
from workhorse.guard.problems import MalformedRequest
from workhorse.guard.verdict import Refusal

__all__ = [
    "Malformed",
    "Proxies",
    "ProxyRules",
    "Said",
    "certificate",
    "compile_proxies",
    "read_forwarded",
    "read_list",
]

MAX_HOPS: Final = 32
"""Most trusted proxies in a row."""
MAX_CACHED: Final = 4096
"""Header values and peers remembered, twice."""
MAX_CACHED_BYTES: Final = 200

# The widest networks that are anybody's own, by the version of IP: 10.0.0.0/8 and fc00::/7.
WIDEST: Final = {4: 8, 6: 7}

UNIX: Final = "unix"
# Traefik says `wss` of a WebSocket, others `https`.
TLS_OF: Final = {b"http": False, b"ws": False, b"https": True, b"wss": True}

_HEADER: Final = re.compile(r"[a-z0-9-]{1,100}")
# What a request brings itself: as the header of a certificate it would be everybody's.
_NOT_CERTIFICATES: Final = frozenset({"host", "authorization", "cookie", "forwarded", "x-forwarded-for"})
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# RFC 7239, section 6: an address with an optional port, `unknown`, or a name made up to hide it.
_NODE: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<v4>[0-9.]{7,15})|(?P<name>unknown|_[A-Za-z0-9._-]{1,64}))"
    r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]{1,64}))?"
)
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# One parameter; a quoted value without escapes, which none of the parameters that are read here needs.
_PARAMETER: Final = re.compile(rb"[ \t]*(" + _TOKEN + rb")=(?:(" + _TOKEN + rb")|\"([^\"\\]*)\")[ \t]*")


class Malformed(Exception):  # not a WorkhorseError: it never leaves the check
    """A trusted proxy said what cannot be understood. The text names the header, for the client's eyes."""


class Said(NamedTuple):
    """What a header says of the client. What it does not say is empty, or None."""

    client: str = ""
    """An address in its shortest form; `unknown` or `_name` where a proxy hides it."""
    tls: bool | None = None
    host: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRules:
    """Who is trusted, and what is read from them."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    unix: bool
    """Trust peers that have no address: those of a Unix socket."""
    header: Literal["x-forwarded", "forwarded"]
    certificate_header: bytes
    """Where a trusted proxy puts the client's certificate; empty: nowhere."""


def compile_proxies(
    *,
    networks: Iterable[str] = (),
    header: Literal["x-forwarded", "forwarded"] = "x-forwarded",
    certificate_header: str = "",
) -> ProxyRules:
    """Compile who is trusted.

    Args:
        networks: networks such as `10.0.0.0/8`, addresses, or `unix` for the peers of a Unix socket.
        header: which of the two kinds of header they write. The other one is never read: a proxy that writes only
            one kind lets the other through as the client sent it.
        certificate_header: the header in which they pass on a client certificate that they have verified.

    Raises:
        SettingsError: a network is malformed or is everybody, or the header's name cannot be meant.
    """
    parsed: list[IPv4Network | IPv6Network] = []
    unix = False
    for network in networks:
        if network == UNIX:
            unix = True
        else:
            parsed.append(_network(network))
    _refuse_everybody(parsed)
    name = certificate_header.lower()
    if name and (not _HEADER.fullmatch(name) or name in _NOT_CERTIFICATES):
        raise SettingsError(
            f"guard.client_certificate_header is {certificate_header!r}; write the name of the header that your proxy"
            " sets for it, such as `x-client-cert`"
        )
    if name and not parsed and not unix:
        raise SettingsError(
            f"guard.client_certificate_header is {certificate_header!r}, but no proxy is trusted to send it; name its"
            " network in guard.trusted_proxies"
        )
    return ProxyRules(networks=tuple(parsed), unix=unix, header=header, certificate_header=name.encode())


class Proxies:
    """Reads what trusted proxies say, into the facts."""

    def __init__(self, rules: ProxyRules) -> None:
        self.rules: Final = rules
        self._nobody: Final = not rules.networks and not rules.unix
        self._reads_lists: Final = rules.header == "x-forwarded"
        self._header: Final = b"forwarded" if rules.header == "forwarded" else b"x-forwarded-for"
        # Two generations each: what was not asked for while the younger one filled up is forgotten.
        self._peers: dict[str, bool] = {}
        self._older_peers: dict[str, bool] = {}
        self._said: dict[bytes, Said] = {}
        self._older_said: dict[bytes, Said] = {}

    def check(self, facts: Facts) -> Refusal | None:
        """Set `client`, `tls`, `host` and `trusted` of the facts; refuse what a trusted proxy cannot have meant.

        Threat: a client that names another address, host or scheme than its own, and so gets around rate limits,
            networks, host lists, redirects and the audit log (CWE-348, CWE-290, CWE-807).
        Method: without a trusted peer, these headers do nothing. With one, the list is walked from the right over
            trusted addresses (at most 32) to the first other one. With `forwarded`, scheme and host are those of the
            client's own element. X-Forwarded-Proto and -Host have no elements that belong to an address, so the
            last value alone counts: the peer's own word.
        Assumes: each trusted proxy sets or appends to every header of its kind, and passes none on as it came. A
            proxy in the middle of a chain passes on the scheme and host that the one before it told.
        Standard: RFC 7239, sections 4 to 6 and 8.1; OWASP ASVS 5.0.0 V4.1.3 and V15.3.4.
        """
        if self._nobody:
            return None
        peer = facts.peer
        trusted = self._peers.get(peer)
        if trusted is None:
            trusted = self._remember_peer(peer)
        if not trusted:
            return None
        facts.trusted = True
        try:
            self._read(facts)
        except Malformed as error:
            return Refusal("proxies.malformed", MalformedRequest(str(error)))
        return None

    def _read(self, facts: Facts) -> None:
        headers = facts.headers
        value = headers.get(self._header)
        if len(headers) != len(facts.raw):
            # What came in several lines is one list (RFC 9110, section 5.3); `headers` has its last line only.
            if self.rules.certificate_header:
                _refuse_repeated(facts.raw, self.rules.certificate_header)
            if value is not None:
                value = _joined(facts.raw, self._header)
        if value is not None:
            said = self._said.get(value)
            if said is None:
                said = self._remember(value)
            client, tls, host = said
            facts.client = client
            if tls is not None:
                facts.tls = tls
            if host is not None:
                facts.host = host
        if self._reads_lists:
            proto = headers.get(b"x-forwarded-proto")
            if proto is not None:
                facts.tls = TLS_OF[proto] if proto in TLS_OF else _proto(proto)
            host = headers.get(b"x-forwarded-host")
            if host is not None and host != facts.host:
                facts.host = _host(host)

    def _remember_peer(self, peer: str) -> bool:
        trusted = self._older_peers.get(peer)
        if trusted is None:
            trusted = is_trusted(self.rules, peer)
        if len(self._peers) >= MAX_CACHED:
            self._older_peers, self._peers = self._peers, {}
        self._peers[peer] = trusted
        return trusted

    def _remember(self, value: bytes) -> Said:
        said = self._older_said.get(value)
        if said is None:
            said = (
                read_forwarded(self.rules, value) if self.rules.header == "forwarded" else read_list(self.rules, value)
            )
        if len(value) <= MAX_CACHED_BYTES:
            if len(self._said) >= MAX_CACHED:
                self._older_said, self._said = self._said, {}
            self._said[value] = said
        return said


def certificate(rules: ProxyRules, facts: Facts) -> bytes | None:
    """The client certificate as a trusted proxy passed it on; None where none came, or from anybody else.

    Threat: a caller that signs in as anybody by sending the header itself (CWE-290).
    Method: the header counts only from a trusted peer, and only once (`Proxies.check` refuses two).
    Assumes: `Proxies.check` has run; the proxy verifies the certificate, and removes the header from what clients send.
    Standard: RFC 9440, section 4; OWASP ASVS 5.0.0 V4.1.3.
    """
    if not facts.trusted or not rules.certificate_header:
        return None
    return facts.headers.get(rules.certificate_header)


def is_trusted(rules: ProxyRules, address: str) -> bool:
    """Whether `address` is a trusted proxy's; an empty one is that of a Unix socket's peer."""
    if not address:
        return rules.unix
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    # A socket that serves both families names IPv4 peers so.
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    plain = mapped if mapped is not None else parsed
    return any(plain in network for network in rules.networks)


def read_list(rules: ProxyRules, value: bytes) -> Said:
    """Read X-Forwarded-For: addresses, the client's first.

    Raises:
        Malformed: an element that a trusted proxy wrote is no address, or there are too many of them.
    """
    client = ""
    # One more than may be trusted: the last part is what is left over.
    for part in reversed(value.rsplit(b",", MAX_HOPS)[-MAX_HOPS:]):
        client = _node("X-Forwarded-For", part.strip(b" \t"))
        if not is_trusted(rules, client):
            return Said(client)
    if value.count(b",") >= MAX_HOPS:
        raise Malformed(f"X-Forwarded-For names more than {MAX_HOPS} proxies.")
    return Said(client)


def read_forwarded(rules: ProxyRules, value: bytes) -> Said:
    """Read Forwarded (RFC 7239, section 4).

    Raises:
        Malformed: an element that a trusted proxy wrote is malformed or names no `for`, or there are too many.
    """
    said = Said()
    end = len(value)
    for _ in range(MAX_HOPS):
        start = _element_start(value, end)
        said = _element(value[start:end])
        if start == 0 or not is_trusted(rules, said.client):
            return said
        end = start - 1
    raise Malformed(f"Forwarded names more than {MAX_HOPS} proxies.")


def _element_start(value: bytes, end: int) -> int:
    """Where the last element before `end` begins.

    It is looked for from the right, counting quotes: from the left, a client's open quote would swallow what the
    proxy wrote behind it.
    """
    quoted = False
    position = end
    while position > 0:
        byte = value[position - 1]
        if byte == 0x22:
            quoted = not quoted
        elif byte == 0x2C and not quoted:
            return position
        position -= 1
    return 0


def _element(element: bytes) -> Said:
    pairs: dict[bytes, bytes] = {}
    position = 0
    while True:
        match = _PARAMETER.match(element, position)
        if match is None:
            raise Malformed("The header Forwarded is malformed.")
        name, token, quoted = match.groups()
        name = name.lower()
        if name in pairs:  # RFC 7239, section 4: none may occur twice in one element
            raise Malformed("The header Forwarded names a parameter twice.")
        pairs[name] = token if token is not None else quoted
        position = match.end()
        if position == len(element):
            break
        if element[position] != 0x3B:
            raise Malformed("The header Forwarded is malformed.")
        position += 1
    if b"for" not in pairs:
        raise Malformed("The header Forwarded does not say for whom.")
    proto, host = pairs.get(b"proto"), pairs.get(b"host")
    return Said(
        _node("Forwarded", pairs[b"for"]),
        _proto(proto) if proto is not None else None,
        _host(host) if host is not None else None,
    )


def _node(header: str, value: bytes) -> str:
    """The address without its port, in its shortest form."""
    text = value.decode("latin-1")
    match = _NODE.fullmatch(text)
    if match is None:
        # Bare IPv6, or nonsense. A zone (RFC 4007) means nothing on this machine.
        address = text if "%" not in text else ""
    elif match["name"] is not None:
        return match["name"]
    else:
        address = match["v6"] or match["v4"]
    try:
        parsed = ip_address(address)
    except ValueError:
        raise Malformed(f"The header {header} holds what is not an address.") from None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped if mapped is not None else parsed)


def _proto(value: bytes) -> bool:
    tls = TLS_OF.get(value.rpartition(b",")[2].strip(b" \t").lower())
    if tls is None:
        raise Malformed("The scheme that the client used is not http or https.")
    return tls


def _host(value: bytes) -> bytes:
    host = value.rpartition(b",")[2].strip(b" \t")
    if not _HOST.fullmatch(host):
        raise Malformed("The host that the client asked for is malformed.")
    return host


def _joined(raw: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return b", ".join([value for key, value in raw if key == name])


def _refuse_repeated(raw: list[tuple[bytes, bytes]], name: bytes) -> None:
    if sum(key == name for key, _ in raw) > 1:
        raise Malformed(f"The header {name.decode()} was sent more than once.")


def _refuse_everybody(networks: list[IPv4Network | IPv6Network]) -> None:
    """Refuse many networks that are one which alone would be refused, with room for neighbours such as 10/8 and 11/8.

    Raises:
        SettingsError: they are nearly everybody.
    """
    plain = [network for network in networks if isinstance(network, IPv4Network)]
    long = [network for network in networks if isinstance(network, IPv6Network)]
    together: list[IPv4Network | IPv6Network] = [*collapse_addresses(plain), *collapse_addresses(long)]
    for whole in together:
        if whole.prefixlen < WIDEST[whole.version] // 2:
            raise SettingsError(
                f"guard.trusted_proxies together are {whole}, which is nearly everybody: each client could say that it"
                " is another one; name the networks of your proxies"
            )


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise SettingsError(
            f"guard.trusted_proxies has {text!r}, which is not a network ({error}); write for example `10.0.0.0/8`,"
            " `::1/128` or `unix`"
        ) from None
    if network.prefixlen < WIDEST[network.version]:
        raise SettingsError(
            f"guard.trusted_proxies has {text!r}, which is everybody, or nearly: each client could say that it is"
            " another one; name the networks of your proxies"
        )
    return network
