"""Which addresses of the network a client may make us talk to. Pure: resolves nothing, connects to nobody.

`check_url` is what can be seen in a URL alone, at submit. Whoever connects calls `check_address` with the address
that it is about to use, each time: names can change their address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Listed here, not left to `is_global`: its tables differ from one Python to the next, and lack some of these.
_RESERVED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata address
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # a cloud's host agent, public only by its number
        "2001::/23",  # protocol assignments, Teredo among them, which carries IPv4 addresses
        "2002::/16",  # 6to4, which carries IPv4 addresses
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
# Nothing else in IPv6 is given out to anybody; IPv4-mapped, unique-local, link-local and site-local all lie outside.
_UNICAST = ipaddress.IPv6Network("2000::/3")
# Here DNS64 puts what has only an IPv4 address (RFC 6052); the packets end up at that one.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"


class ForbiddenAddress(Exception):
    """The URL or address is not one that clients may make this service reach."""


def check_address(address: str, allowed: Sequence[IPNetwork]) -> None:
    """Raise ForbiddenAddress unless the address is public, or in a network that the operator allowed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if any(ip in network for network in allowed if network.version == ip.version):
        return
    if isinstance(ip, ipaddress.IPv6Address) and ip in _NAT64:
        check_address(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)), allowed)
    elif not _is_public(ip):
        raise ForbiddenAddress(f"the address {address} is private or reserved")


def check_url(url: str, allowed: Sequence[IPNetwork]) -> None:
    """Raise ForbiddenAddress for what no resolution of its name can make right."""
    parts = _split(ascii_url(url))
    if parts.scheme not in ("http", "https"):
        raise ForbiddenAddress("is not an http:// or https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ForbiddenAddress("holds credentials")
    if parts.port == 0:
        raise ForbiddenAddress("names port 0")
    host = (parts.hostname or "").rstrip(".").lower()
    if not host:
        raise ForbiddenAddress("is not a valid URL")
    if (literal := _literal(host)) is not None:
        check_address(literal, allowed)
    elif host == "localhost" or host.endswith(".localhost"):
        check_address("127.0.0.1", allowed)


def ascii_url(url: str) -> str:
    """The URL as it goes over the wire: an international name in Punycode, other characters percent-encoded.

    What resolvers take for one name or number is one here too (full-width digits, ideographic full stops). Raises
    ForbiddenAddress for what is no URL.
    """
    if any(character <= " " or character in "\\\x7f" for character in url):
        raise ForbiddenAddress("is not a valid URL")
    if url.isascii():
        _split(url)
        return url
    parts = _split(url)
    try:
        host = (parts.hostname or "").encode("idna").decode()
        host = f"[{host}]" if ":" in host else host
        authority = quote(parts.netloc[: parts.netloc.rfind("@") + 1], safe=_URL_CHARACTERS) + host
    except UnicodeError as error:
        raise ForbiddenAddress("is not a valid URL") from error
    authority += f":{parts.port}" if parts.port is not None else ""
    path, query = (quote(part, safe=_URL_CHARACTERS) for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, authority, path, query, ""))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname  # Reading them is what checks them.
    except ValueError as error:
        raise ForbiddenAddress("is not a valid URL") from error
    return parts


def _is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _UNICAST:
        return False
    if any(ip in network for network in _RESERVED if network.version == ip.version):
        return False
    return ip.is_global and not ip.is_multicast


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
