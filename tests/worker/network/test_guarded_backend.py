"""Which addresses are connected to, and when waiting ends, whatever names, servers and redirects say."""

from __future__ import annotations

import ipaddress
import socket
import threading
from pathlib import Path

import pytest

from tests.worker.network.servers import CONTENT, DRIPS, Server, fetch, raw_server, resolver
from worker.network.outbound import RequestError, post

SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "017700000001",
    "localhost",
    "0",
    "0.0.0.0",
]
SPELLINGS += ["[::1]", "[::ffff:127.0.0.1]", "[::]", "a.localhost", "１２７.0.0.1", "user@127.0.0.1", "127.0.0.1."]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_this_machine_opens_a_connection(host: str, target: Path) -> None:
    with socket.create_server(("", 0)) as listener, socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        for server in (listener, other):
            url = f"http://{host}:{server.getsockname()[1]}/"
            with pytest.raises(RequestError):
                fetch(url, target, allowed=[])
            with pytest.raises(RequestError):
                post(url, b"", {}, timeout_seconds=5, allowed_networks=[])
        for server in (listener, other):
            server.settimeout(0.05)
            with pytest.raises(TimeoutError):
                server.accept()
    assert not target.exists()


def test_a_name_with_one_private_address_is_refused(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for addresses in (["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"]):
        with (
            resolver(monkeypatch, addresses) as asked,
            pytest.raises(RequestError, match="private"),
        ):
            fetch(server.url("/", "rebind.example"), target, allowed=[])
        assert asked == ["rebind.example"]
    assert server.requests == []


def test_a_name_that_changes_its_address_is_not_asked_again(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checked address, here a neighbour of loopback where nobody listens, is the one that is connected to."""
    allowed = [ipaddress.ip_network("127.9.9.9/32")]
    with (
        resolver(monkeypatch, ["127.9.9.9"], ["127.0.0.1"]) as asked,
        pytest.raises(RequestError, match="cannot be read"),
    ):
        fetch(server.url("/", "rebind.example"), target, allowed=allowed)
    assert asked == ["rebind.example"]
    assert server.requests == []


def test_the_name_stays_in_the_host_header_and_a_dead_address_is_passed_over(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with resolver(monkeypatch, ["127.9.9.9", "127.0.0.1"]):
        assert fetch(server.url("/", "music.example"), target) == CONTENT
    assert server.requests[0][2]["host"] == f"music.example:{server.port}"


def test_a_name_server_that_hangs_costs_no_more_than_the_deadline(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(30) and [])
    with pytest.raises(RequestError, match="in time"):
        fetch("http://slow.example/", target, timeout=0.2)
    answered.set()


@pytest.mark.parametrize("stage", DRIPS)
def test_a_server_that_drips_is_left_at_the_deadline(stage: str, target: Path) -> None:
    """Each byte comes well before any read times out; without a deadline of the whole, this ends otherwise."""

    def talk(connection: socket.socket, done: threading.Event) -> None:
        connection.sendall(DRIPS[stage])
        for _ in range(600):
            if done.wait(0.05):
                return
            connection.sendall(b"" if stage == "nothing" else b"x")

    with raw_server(talk) as url, pytest.raises(RequestError, match="in time"):
        fetch(url, target, timeout=0.4)


def test_tls_is_to_the_checked_address_and_for_the_name(
    tls_server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with resolver(monkeypatch, ["127.0.0.1"]):
        assert fetch(tls_server.url("/a.wav", "music.example").replace("http", "https"), target) == CONTENT
        with pytest.raises(RequestError, match="certificate"):
            fetch(tls_server.url("/a.wav", "other.example").replace("http", "https"), target)
    assert [headers["host"] for _, _, headers, _ in tls_server.requests] == [f"music.example:{tls_server.port}"]


def test_no_tls_to_a_server_without_a_certificate_for_the_name(server: Server, target: Path) -> None:
    with pytest.raises(RequestError):
        fetch(server.url("/").replace("http", "https"), target, timeout=5)
    assert server.requests == []
