"""Which URLs and addresses a client may name."""

from __future__ import annotations

import ipaddress

import pytest

from predictions.addresses import ForbiddenAddress, ascii_url, check_address, check_url, receiver_of

FORBIDDEN = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # the metadata service of clouds
    "100.64.0.1",  # carrier-grade NAT
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "240.0.0.1",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
    "2001:0:7f00:1::1",
    "192.0.0.192",  # another cloud's metadata service
    "168.63.129.16",  # another cloud's host agent
    "192.88.99.1",
    "2001:db8::1",
    "3fff::1",
    "fec0::1",
    "ff0e::1",
    "100::1",
    "64:ff9b::a9fe:a9fe",
    "::7f00:1",
    "fe80::1%eth0",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_private_and_reserved_addresses_are_refused(address: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_address(address, ())


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address: str) -> None:
    check_address(address, ())


def test_operators_allow_networks_and_nothing_beside_them() -> None:
    allowed = (ipaddress.ip_network("10.0.0.0/8"),)
    check_address("10.1.2.3", allowed)
    for address in ("192.168.1.1", "::ffff:10.1.2.3"):
        with pytest.raises(ForbiddenAddress):
            check_address(address, allowed)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.wav",
        "http://127.1/a.wav",
        "http://2130706433/a.wav",
        "http://0x7f000001/a.wav",
        "http://0177.0.0.1/a.wav",
        "http://0x7f.1/a.wav",
        "http://localhost/a.wav",
        "http://LOCALHOST./a.wav",
        "http://a.localhost/a.wav",
        "http://[::1]/a.wav",
        "http://[::ffff:127.0.0.1]/a.wav",
        "http://[fe80::1%25eth0]/a.wav",
        "http://user:password@example.com/a.wav",
        "http://example.com:0/a.wav",
        "http://example.com:99999/a.wav",
        "http://exa mple.com/a.wav",
        "http:///a.wav",
        "ftp://example.com/a.wav",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/a.wav",
        "example.com/a.wav",
        "http://[bad/a.wav",
        "http://\uff11\uff12\uff17.0.0.1/a.wav",  # full-width digits
        "http://127\u30020\u30020\u30021/a.wav",  # ideographic full stops
        "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/a.wav",  # circled letters
        "http://example.com\\@127.0.0.1/a.wav",
        "http://example.com/a\r\nHost: b",
        "http://@127.0.0.1/a.wav",
        "http://127.0.0.1%2e/a.wav",
        f"http://{'a' * 70}.\u00e4.example/a.wav",
        "",
    ],
)
def test_what_a_url_shows_to_be_wrong_is_refused_at_once(url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_url(url, ())


@pytest.mark.parametrize("url", ["http://example.com/a.wav", "https://example.com:8443/a?b=c#d", "http://8.8.8.8/"])
def test_other_urls_pass(url: str) -> None:
    check_url(url, ())


def test_operators_allow_a_network_in_urls_too() -> None:
    allowed = (ipaddress.ip_network("127.0.0.0/8"),)
    for host in ("127.0.0.1", "localhost", "0x7f000001"):
        check_url(f"http://{host}/a.wav", allowed)
    with pytest.raises(ForbiddenAddress):
        check_url("http://[::1]/a.wav", allowed)


@pytest.mark.parametrize(
    ("url", "on_the_wire"),
    [
        ("http://example.com/a%20b?c=d#e", "http://example.com/a%20b?c=d#e"),
        ("http://b\u00fccher.example:81/\u00e4?\u00f6=%C3%BC", "http://xn--bcher-kva.example:81/%C3%A4?%C3%B6=%C3%BC"),
        ("http://\uff18.8.8.8/", "http://8.8.8.8/"),
        ("http://[2606:4700::1111]/\u00e4", "http://[2606:4700::1111]/%C3%A4"),
    ],
)
def test_international_urls_go_over_the_wire_in_ascii(url: str, on_the_wire: str) -> None:
    assert ascii_url(url) == on_the_wire
    check_url(url, ())


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("http://Example.com./a", "example.com:80"),
        ("https://user@example.com/a", "example.com:443"),
        ("https://example.com:8443", "example.com:8443"),
        ("http://b\u00fccher.example/", "xn--bcher-kva.example:80"),
        ("http://[::1]:81/", "::1:81"),
        ("http://[bad", ""),
    ],
)
def test_the_server_that_a_url_names(url: str, receiver: str) -> None:
    assert receiver_of(url) == receiver
