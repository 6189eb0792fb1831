"""Requests to addresses that clients name, against real servers on this machine."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from worker.network.outbound import MAX_RESPONSE_BYTES, RequestError, download, post

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
CONTENT = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path, and writes down what it was asked."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        self._note()
        if self.path.startswith("/redirect?"):
            return self._answer(302, {"Location": self.path.partition("?")[2]})
        if self.path == "/loop":
            return self._answer(307, {"location": "/loop"})
        if self.path == "/missing":
            return self._answer(404, {})
        return self._answer(200, {}, CONTENT)

    def do_POST(self) -> None:
        self._note()
        if self.path == "/redirect":
            return self._answer(302, {"Location": "/elsewhere"})
        if self.path == "/busy":
            return self._answer(429, {"Retry-After": "7"})
        return self._answer(200, {}, b"x" * 10 * MAX_RESPONSE_BYTES if self.path == "/long" else b"thanks")

    def _note(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.requests.append((self.command, self.path, headers, body))

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        # A client that has read enough hangs up.
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class Server:
    """An HTTP server, its port, and the requests it got."""

    def __init__(self, server: http.server.ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = server.RequestHandlerClass.requests

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving()


def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    handler = type("Noting", (Handler,), {"requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        listening.handle_error = lambda *_: None  # A client that refuses the certificate hangs up.
        if tls is not None:
            listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield Server(listening)
        listening.shutdown()
        thread.join()


@contextmanager
def raw_server(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server that says what `talk` says, once a connection; yields its URL."""
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            talk(connection, done)

    def listen() -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        threads = [threading.Thread(target=listen)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.wav"
        finally:
            done.set()
            for thread in threads:
                thread.join()


def fetch(url: str, path: Path, *, max_bytes: int = 10**6, timeout: float = 10.0, allowed=LOOPBACK) -> bytes:
    download(url, path, max_bytes=max_bytes, timeout_seconds=timeout, allowed_networks=allowed)
    return path.read_bytes()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloaded"


@contextmanager
def resolver(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Iterator[list[str]]:
    """A name server that gives the answers one after the other, whatever the name; yields the names asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[object]:
        # The system's function turns literal addresses into themselves, and connecting calls it again.
        with suppress(ValueError):
            ipaddress.ip_address(host)
            return genuine(host, port, type=socket.SOCK_STREAM)
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    genuine = socket.getaddrinfo
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield asked


def test_an_allowed_network_is_reached(server: Server, target: Path) -> None:
    assert fetch(server.url("/a.wav"), target) == CONTENT
    assert fetch(server.url("/ü.wav?ö"), target) == CONTENT
    assert [path for _, path, _, _ in server.requests] == ["/a.wav", "/%C3%BC.wav?%C3%B6"]


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


DRIPS = {
    "nothing": b"",
    "status line": b"HTTP/1.1 200",
    "headers": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "chunk sizes": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
}


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


def test_a_server_that_hangs_up_is_a_failure(target: Path) -> None:
    with raw_server(lambda connection, done: None) as url, pytest.raises(RequestError, match="cannot be read"):
        fetch(url, target)


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An HTTPS server whose certificate is trusted here, for the name music.example."""
    certificate = tmp_path / "certificate.pem"
    write_certificate(certificate, "music.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield from serving(context)


def write_certificate(path: Path, name: str) -> None:
    """A private key and its self-signed certificate."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


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
