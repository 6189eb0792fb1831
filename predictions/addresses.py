"""Which addresses of the network a client may make us talk to. Pure: resolves nothing, connects to nobody.

`check_url` is what can be seen in a URL alone, at submit. Whoever connects calls `check_address` with the address
that it is about to use, each time: names can change their address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# IPv6 networks that carry an IPv4 address in their last 32 bits: NAT64 (RFC 6052), its local use (RFC 8215), and the
# deprecated IPv4-compatible addresses.
_EMBEDDING = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96"))


class ForbiddenAddress(Exception):
    """The URL or address is not one that clients may make this service reach."""


def check_address(address: str, allowed: Sequence[IPNetwork]) -> None:
    """Raise ForbiddenAddress unless the address is public, or in a network that the operator allowed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if any(ip in network for network in allowed if network.version == ip.version):
        return
    for candidate in (ip, *_embedded(ip)):
        if not candidate.is_global or candidate.is_multicast:
            raise ForbiddenAddress(f"the address {address} is private or reserved")


def _embedded(ip: IPAddress) -> list[IPAddress]:
    """The IPv4 addresses that packets to an IPv6 address may end up at."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    found: list[IPAddress | None] = [ip.ipv4_mapped, ip.sixtofour]
    if ip.teredo:
        found += ip.teredo
    if any(ip in network for network in _EMBEDDING):
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return [item for item in found if item is not None]


def check_url(url: str, allowed: Sequence[IPNetwork]) -> None:
    """Raise ForbiddenAddress for what no resolution of its name can make right."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise ForbiddenAddress("is not a valid URL") from error
    if parts.scheme not in ("http", "https"):
        raise ForbiddenAddress("is not an http:// or https:// URL")
    if not host or any(character <= " " for character in url):
        raise ForbiddenAddress("is not a valid URL")
    if parts.username is not None or parts.password is not None:
        raise ForbiddenAddress("holds credentials")
    if port == 0:
        raise ForbiddenAddress("names port 0")
    if (literal := _literal(host)) is not None:
        check_address(literal, allowed)
    elif host.rstrip(".").lower() == "localhost" or host.rstrip(".").lower().endswith(".localhost"):
        check_address("127.0.0.1", allowed)


def _literal(host: str) -> str | None:
    """The address that a host name spells out, in any spelling that resolvers take: 127.1, 0x7f000001, 0177.0.0.1."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None
