"""Which network an address belongs to, where callers are counted by their network."""

from ipaddress import ip_address
from typing import Final

__all__ = ["network_of"]

# A network of this size is one customer's (RFC 6177): its 2**64 addresses must not be as many callers.
IPV6_PREFIX: Final = 64


def network_of(client: str) -> str:
    """The address as it is counted: an IPv4 address itself, an IPv6 address by its /64."""
    if ":" not in client:
        return client
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    return f"{address.exploded[:19]}::/{IPV6_PREFIX}"
