"""Which network addresses clients may make the service connect to. Resolves no name and opens no connection.

`check_url` checks what a URL alone shows, when it is submitted. `check_address` is called with each address just before
a connection to it is opened, because a name can change its address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Listed here, not left to `is_global`: its tables differ between versions of Python and lack some of these.
_RESERVED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata address
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # a cloud's host agent; formally a public address
        "2001::/23",  # protocol assignments, Teredo among them, which carries IPv4 addresses
        "2002::/16",  # 6to4, which carries IPv4 addresses
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
# All global unicast addresses; IPv4-mapped, unique-local, link-local and site-local ones lie outside.
_UNICAST = ipaddress.IPv6Network("2000::/3")
# DNS64 (RFC 6052): the last 32 bits are the IPv4 address that the packets reach.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"


class ForbiddenAddress(Exception):
    """Clients may not make the service connect to this URL or address."""


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
    """Raise ForbiddenAddress for a URL that is forbidden whatever address its name has."""
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


def receiver_of(url: str) -> str:
    """Which server a URL names: `host:port`, the host in lower case; nothing where the text is not a URL."""
    try:
        parts = _split(ascii_url(url))
    except ForbiddenAddress:
        return ""
    host = (parts.hostname or "").rstrip(".").lower()
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def ascii_url(url: str) -> str:
    """The URL as it is sent: an international name in Punycode, other characters percent-encoded.

    Full-width digits and ideographic full stops become what resolvers take them for. Raises ForbiddenAddress where the
    text is not a URL.
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
        _ = parts.port, parts.hostname  # Reading them raises ValueError where they are wrong.
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
    """The address that a host name spells, in any form that resolvers accept: 127.1, 0x7f000001, 0177.0.0.1."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None
