"""Which addresses a webhook may connect to, checked on the address that is connected to, so that no name can rebind.

Without leave, only addresses of the public internet: who names a destination may not be one who may reach our network.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from schemas.errors import SinkUnavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Public by number, and yet a service of the cloud's inside: Azure's WireServer.
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # RFC 6890; Oracle's metadata, and 3.11 calls much of it global
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215
_V4_COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291, deprecated
_V4_BITS = 0xFFFF_FFFF


class AddressRefused(SinkUnavailable):
    """A destination's name leads to an address that webhooks may not go to."""

    def __init__(self) -> None:
        """Name neither the host nor its address: both may be secret."""
        super().__init__(
            "the destination's address is not a public one",
            hint="set allow_private_addresses for this destination if it is meant to be inside",
        )


def is_public(text: str) -> bool:
    """Tell whether `text`, an address of either family, and every address inside of it are of the public internet."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(_one_is_public(each) for each in (address, *_inside(address)))


def _one_is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None or address in _NAT64:
            return True  # what counts is the address inside
        if address.is_site_local or address in _NAT64_LOCAL:
            return False
    elif address in _PROTOCOLS:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _METADATA


def _inside(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """Give the IPv4 addresses that an IPv6 address carries: mapped, compatible, 6to4, Teredo, NAT64."""
    if not isinstance(address, ipaddress.IPv6Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or address in _V4_COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & _V4_BITS)


def check_literal(url: URL) -> None:
    """Refuse a URL whose host is an address that is not public: the client asks no resolver about those.

    Raises:
        AddressRefused: it is not public.
    """
    host = (url.host or "").partition("%")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return  # a name: the resolver decides
    if not is_public(host):
        raise AddressRefused


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only; the client connects to exactly what is returned here.

    A name with a private address among public ones is refused as a whole: it is no address of an honest receiver.
    """

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`.

        Raises:
            AddressRefused: one of them is not public.
        """
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(each["host"]) for each in found):
            raise AddressRefused
        return found

    async def close(self) -> None:
        """Give back what the inner resolver holds."""
        await self._inner.close()
