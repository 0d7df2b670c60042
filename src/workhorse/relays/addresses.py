"""Where a webhook may be sent: not into our own network (server-side request forgery, CWE-918).

Threat: an endpoint's address is what somebody outside has typed in. `http://169.254.169.254/` would hand out the
    credentials of the machine, and a name may point anywhere, at another place each time it is asked for.
Method: the name is resolved once, each address that comes back is looked at, and the connection is made to one of these
    very addresses, while certificate and Host header stay the name's. No redirect is followed and no proxy is used.
Assumptions: what is reachable at a public address may be asked by anybody.
"""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from workhorse.errors import WorkhorseError

__all__ = ["AddressRefused", "Network", "address_of", "is_public", "networks_of"]

Network: TypeAlias = IPv4Network | IPv6Network

# RFC 6052 and RFC 8215: an IPv4 address within, to which a translator of the network may lead.
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


class AddressRefused(WorkhorseError):
    """The endpoint's name leads to an address that nothing is sent to."""


def networks_of(texts: Sequence[str]) -> tuple[Network, ...]:
    """The networks, as values.

    Raises:
        ValueError: one is malformed.
    """
    return tuple(ip_network(text) for text in texts)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is of the public internet, and of one machine."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or any(address in net for net in _TRANSLATED):
            return False
    local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not (local or address.is_multicast or address.is_reserved)


async def address_of(host: str, port: int, allowed: Sequence[Network]) -> str:
    """The address to connect to.

    Args:
        host: a name or an address.
        port: of the endpoint.
        allowed: networks that may be sent to although they are not public.

    Raises:
        AddressRefused: one of its addresses is not public, nor allowed: then none of them is used.
        OSError: the name is not known.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not addresses:
        raise AddressRefused(f"{host} has no address")
    for address in addresses:
        if not is_public(address) and not any(address in network for network in allowed):
            raise AddressRefused(
                f"{host} leads to {address}, which is not of the public internet; a receiver within your own network"
                " is named in insecure_networks"
            )
    return str(addresses[0])
