"""Downloads and posts against real servers on this machine: redirects, sizes, broken transfers, statuses."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.worker.network.servers import CONTENT, DRIPS, LOOPBACK, Server, fetch, raw_server
from worker.network import guarded_backend
from worker.network.outbound import RequestError, download, post


def test_an_allowed_network_is_reached(server: Server, target: Path) -> None:
    assert fetch(server.url("/a.wav"), target) == CONTENT
    assert fetch(server.url("/ü.wav?ö"), target) == CONTENT
    assert [path for _, path, _, _ in server.requests] == ["/a.wav", "/%C3%BC.wav?%C3%B6"]


def test_redirects_are_followed(server: Server, target: Path) -> None:
    assert fetch(server.url("/redirect?/redirect?/a.wav"), target) == CONTENT
    assert len(server.requests) == 3


def test_endless_redirects_are_given_up(server: Server, target: Path) -> None:
    with pytest.raises(RequestError, match="more than 5 redirects"):
        fetch(server.url("/loop"), target)
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "location", ["http://127.0.0.2:{port}/", "//127.0.0.2:{port}/", "http://0x7f000002:{port}/", "file:///etc/passwd"]
)
def test_a_redirect_to_a_forbidden_address_is_refused(location: str, server: Server, target: Path) -> None:
    """The redirecting server is allowed, what it redirects to is not: the listener there sees nobody."""
    with socket.create_server(("127.0.0.2", 0)) as listener:
        listener.settimeout(0.05)
        url = server.url("/redirect?" + location.format(port=listener.getsockname()[1]))
        with pytest.raises(RequestError, match="may not be reached"):
            fetch(url, target, allowed=[ipaddress.ip_network("127.0.0.1/32")])
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not target.exists()


@pytest.mark.parametrize("location", ["http://[bad", "http://a:b/", "\x80", "ftp://example.com/"])
def test_a_redirect_to_nonsense_is_a_clear_failure(location: str, target: Path) -> None:
    def talk(connection: socket.socket, done: threading.Event) -> None:
        head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: {location}\r\n\r\n"
        connection.sendall(head.encode("latin-1"))

    with raw_server(talk) as url, pytest.raises(RequestError):
        fetch(url, target)


def test_proxy_variables_are_ignored(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(server.url("/"), target) == CONTENT


def test_a_status_other_than_200_is_a_failure_that_keeps_the_query_to_itself(server: Server, target: Path) -> None:
    with pytest.raises(RequestError, match="status 404"):
        fetch(server.url("/missing"), target)
    with pytest.raises(RequestError) as raised:
        fetch(server.url("/redirect?ftp://x/?signature=secret"), target)
    assert "secret" not in str(raised.value)


def test_what_is_larger_than_the_cap_is_refused(server: Server, target: Path) -> None:
    assert len(fetch(server.url("/"), target, max_bytes=len(CONTENT))) == len(CONTENT)
    with pytest.raises(RequestError, match="more than"):
        fetch(server.url("/"), target, max_bytes=len(CONTENT) - 1)


def test_an_endless_body_is_cut_at_the_cap(target: Path) -> None:
    def talk(connection: socket.socket, done: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not done.is_set():
            connection.sendall(b"x" * 65_536)

    with raw_server(talk) as url, pytest.raises(RequestError, match="more than 1000000 bytes"):
        fetch(url, target)
    assert target.stat().st_size <= 10**6


@pytest.mark.parametrize(("length", "ends_well"), [(10, False), (4, True), (3, True)])
def test_a_wrong_content_length(length: int, ends_well: bool, target: Path) -> None:
    """Too few bytes are a broken transfer; what exceeds the length is not part of the body."""

    def talk(connection: socket.socket, done: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\nabcd" % length)

    with raw_server(talk) as url:
        if ends_well:
            assert fetch(url, target) == b"abcd"[:length]
        else:
            with pytest.raises(RequestError, match="cannot be read"):
                fetch(url, target)


def test_a_server_that_hangs_up_is_a_failure(target: Path) -> None:
    with raw_server(lambda connection, done: None) as url, pytest.raises(RequestError, match="cannot be read"):
        fetch(url, target)


def test_a_post_delivers_body_and_headers(server: Server) -> None:
    headers = {"Content-Type": "application/json", "webhook-id": "msg_1"}
    status, _ = post(server.url("/hook"), b'{"a":1}', headers, timeout_seconds=5, allowed_networks=LOOPBACK)
    assert status == 200
    [(method, path, sent, body)] = server.requests
    assert (method, path, body) == ("POST", "/hook", b'{"a":1}')
    assert (sent["content-type"], sent["webhook-id"]) == ("application/json", "msg_1")


def test_a_post_returns_status_and_headers_and_follows_nothing(server: Server) -> None:
    busy = post(server.url("/busy"), b"", {}, timeout_seconds=5, allowed_networks=LOOPBACK)
    assert (busy[0], busy[1]["retry-after"]) == (429, "7")
    assert post(server.url("/redirect"), b"", {}, timeout_seconds=5, allowed_networks=LOOPBACK)[0] == 302
    assert [path for _, path, _, _ in server.requests] == ["/busy", "/redirect"]


def test_how_the_answer_to_a_post_ends_does_not_matter(server: Server) -> None:
    def talk(connection: socket.socket, done: threading.Event) -> None:
        connection.sendall(DRIPS["body"])
        done.wait(30)

    assert post(server.url("/long"), b"", {}, timeout_seconds=5, allowed_networks=LOOPBACK)[0] == 200
    with raw_server(talk) as url:
        assert post(url, b"", {}, timeout_seconds=2, allowed_networks=LOOPBACK)[0] == 200


def test_a_post_to_nobody_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RequestError, match="cannot be read"):
        post(f"http://127.0.0.1:{port}/", b"", {}, timeout_seconds=5, allowed_networks=LOOPBACK)


class Stopper:
    """Stops a download from another thread."""

    def __init__(self) -> None:
        self.stop: Callable[[], object] | None = None

    @contextmanager
    def __call__(self, stop: Callable[[], object]) -> Iterator[None]:
        self.stop = stop
        yield


def stop_once(url: str, target: Path, begun: threading.Event) -> None:
    """Stop a download, which could go on for ten minutes, once it has begun; it has then ended with RequestError."""
    stopper = Stopper()
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(guarded_backend, "CONNECT_TIMEOUT_SECONDS", 600.0)
        running = pool.submit(
            download,
            url,
            target,
            max_bytes=10**6,
            timeout_seconds=600.0,
            allowed_networks=LOOPBACK,
            stoppable=stopper,
        )
        assert begun.wait(60)
        assert stopper.stop is not None
        stopper.stop()
        with pytest.raises(RequestError):
            running.result(60)


@pytest.mark.parametrize("stage", [*DRIPS, "until the end"])
def test_a_stopped_download_closes_its_connection(stage: str, target: Path) -> None:
    begun, left = threading.Event(), threading.Event()

    def talk(connection: socket.socket, done: threading.Event) -> None:
        # Without a length, the end of the connection is the end of the body.
        connection.sendall(DRIPS.get(stage, b"HTTP/1.1 200 OK\r\n\r\nsome"))
        begun.set()
        connection.settimeout(60)
        if connection.recv(1) == b"":
            left.set()

    with raw_server(talk) as url:
        stop_once(url, target, begun)
        assert left.wait(60)


def test_a_download_is_stopped_in_the_middle_of_a_tls_handshake(target: Path) -> None:
    begun = threading.Event()

    def talk(connection: socket.socket, done: threading.Event) -> None:
        begun.set()
        done.wait(60)

    with raw_server(talk) as url:
        stop_once(url.replace("http", "https"), target, begun)


def test_a_download_is_stopped_while_it_connects(target: Path) -> None:
    """Nobody accepts here, and what may wait to be accepted does so already."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        begun = threading.Event()
        genuine = socket.socket.connect

        class Watched(socket.socket):
            def connect(self, to: object) -> None:
                begun.set()
                genuine(self, to)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "socket", Watched)
            stop_once(f"http://127.0.0.1:{address[1]}/", target, begun)
        for connection in waiting:
            connection.close()


def test_a_download_is_stopped_while_its_name_is_looked_up(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, answered = threading.Event(), threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        begun.set()
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    stop_once("http://slow.example/", target, begun)
    answered.set()


def test_a_download_that_is_stopped_before_it_begins_opens_no_connection(server: Server, target: Path) -> None:
    @contextmanager
    def at_once(stop: Callable[[], object]) -> Iterator[None]:
        stop()
        yield

    with pytest.raises(RequestError, match="in time"):
        download(
            server.url("/"),
            target,
            max_bytes=10**6,
            timeout_seconds=600.0,
            allowed_networks=LOOPBACK,
            stoppable=at_once,
        )
    assert server.requests == []
