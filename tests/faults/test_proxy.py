"""The proxy breaks what it is told to break, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer, ThreadingUnixStreamServer

import pytest

from tests.faults.proxy import TcpProxy
from tests.servers import wait_until


class Echo(StreamRequestHandler):
    """Sends each line back, and remembers it."""

    received: list[bytes]

    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.received.append(line)
                self.wfile.write(line)
        except ConnectionError:
            pass


@pytest.fixture
def received() -> list[bytes]:
    return []


@pytest.fixture
def proxy(received: list[bytes]) -> Iterator[TcpProxy]:
    handler = type("Echoing", (Echo,), {"received": received})
    with ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with TcpProxy(("127.0.0.1", server.server_address[1])) as proxy:
                yield proxy
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[socket.socket]:
    with connect(proxy) as client:
        yield client


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def echo(client: socket.socket, line: bytes) -> bytes:
    client.sendall(line)
    return client.recv(1000)


def test_bytes_pass_in_both_directions_until_the_client_ends(proxy: TcpProxy, client: socket.socket) -> None:
    big = b"x" * 300_000 + b"\n"
    client.sendall(big)
    client.shutdown(socket.SHUT_WR)
    with client.makefile("rb") as answer:
        assert answer.read() == big
    wait_until(lambda: proxy.connections() == 0, seconds=5)


def test_reset_breaks_open_connections_only(proxy: TcpProxy, client: socket.socket) -> None:
    assert echo(client, b"one\n") == b"one\n"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with connect(proxy) as other:
        assert echo(other, b"two\n") == b"two\n"


def test_held_bytes_arrive_after_the_release(proxy: TcpProxy, client: socket.socket, received: list[bytes]) -> None:
    assert echo(client, b"one\n") == b"one\n"
    proxy.hold()
    with connect(proxy) as other:
        for held in (client, other):
            held.sendall(b"two\n")
            held.settimeout(0.2)
            with pytest.raises(TimeoutError):
                held.recv(1)
        assert received == [b"one\n"]
        proxy.release()
        for held in (client, other):
            held.settimeout(5)
            assert held.recv(1000) == b"two\n"


def test_a_held_connection_can_be_reset(proxy: TcpProxy, client: socket.socket) -> None:
    assert echo(client, b"one\n") == b"one\n"
    proxy.hold()
    client.sendall(b"two\n")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_delay_holds_each_chunk(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.delay(0.2)
    start = time.monotonic()
    assert echo(client, b"one\n") == b"one\n"
    assert time.monotonic() - start >= 0.4
    proxy.delay(0)
    start = time.monotonic()
    assert echo(client, b"two\n") == b"two\n"
    assert time.monotonic() - start < 0.4


def test_a_dropped_reply_was_asked_for(proxy: TcpProxy, client: socket.socket, received: list[bytes]) -> None:
    happened = proxy.drop_next_reply(b"two")
    assert echo(client, b"one\n") == b"one\n"
    assert not happened.is_set()
    client.sendall(b"two\n")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert happened.is_set()
    assert received == [b"one\n", b"two\n"]
    with connect(proxy) as other:
        assert echo(other, b"two\n") == b"two\n"


def test_a_dropped_request_never_arrives(proxy: TcpProxy, client: socket.socket, received: list[bytes]) -> None:
    happened = proxy.drop_next_request(b"two")
    assert echo(client, b"one\n") == b"one\n"
    client.sendall(b"two\n")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert happened.is_set()
    assert received == [b"one\n"]


def test_the_next_request_is_dropped_whatever_it_is(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.drop_next_request()
    client.sendall(b"one\n")
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_refused_connections_end_at_once(proxy: TcpProxy, client: socket.socket) -> None:
    assert echo(client, b"one\n") == b"one\n"
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    # The reset can come before connect() has returned.
    with pytest.raises(ConnectionResetError), connect(proxy) as other:
        other.recv(1)
    proxy.refuse(False)
    with connect(proxy) as other:
        assert echo(other, b"two\n") == b"two\n"


def test_a_target_that_is_away_resets_the_client(proxy: TcpProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with TcpProxy(("127.0.0.1", port)) as nowhere, pytest.raises(ConnectionResetError), connect(nowhere) as client:
        client.recv(1)


def test_the_target_can_be_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    handler = type("Echoing", (Echo,), {"received": []})
    with ThreadingUnixStreamServer(str(path), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with TcpProxy(path) as proxy, connect(proxy) as client:
                assert echo(client, b"one\n") == b"one\n"
        finally:
            server.shutdown()
            thread.join()


def test_no_thread_is_left() -> None:
    with TcpProxy(("127.0.0.1", 1)):
        assert any(thread.name == "tcp-proxy" for thread in threading.enumerate())
    assert not any(thread.name == "tcp-proxy" for thread in threading.enumerate())
