"""Servers that the guarded connections are tested against: HTTP, HTTPS, raw bytes, and a name server."""

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

from worker.network.outbound import MAX_RESPONSE_BYTES, download

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
CONTENT = bytes(range(256)) * 1000
DRIPS = {
    "nothing": b"",
    "status line": b"HTTP/1.1 200",
    "headers": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "chunk sizes": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
}
"""What a slow server sends at once before it goes on byte by byte, by the part of the response it is slow in."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path, and records the requests."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        self._record()
        if self.path.startswith("/redirect?"):
            return self._answer(302, {"Location": self.path.partition("?")[2]})
        if self.path == "/loop":
            return self._answer(307, {"location": "/loop"})
        if self.path == "/missing":
            return self._answer(404, {})
        return self._answer(200, {}, CONTENT)

    def do_POST(self) -> None:
        self._record()
        if self.path == "/redirect":
            return self._answer(302, {"Location": "/elsewhere"})
        if self.path == "/busy":
            return self._answer(429, {"Retry-After": "7"})
        return self._answer(200, {}, b"x" * 10 * MAX_RESPONSE_BYTES if self.path == "/long" else b"thanks")

    def _record(self) -> None:
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
    """A running HTTP server: its port and the requests it got, each as method, path, headers and body."""

    def __init__(self, server: http.server.ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = server.RequestHandlerClass.requests

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    handler = type("RecordingHandler", (Handler,), {"requests": []})
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
    """A server that calls `talk` for each connection; yields its URL. `talk` gets an event that is set at the end."""
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


@contextmanager
def resolver(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Iterator[list[str]]:
    """Resolve every name to these addresses in turn, the last of them repeated; yields the names asked for."""
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


def write_certificate(path: Path, name: str) -> None:
    """A private key and its self-signed certificate."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


def fetch(url: str, path: Path, *, max_bytes: int = 10**6, timeout: float = 10.0, allowed=LOOPBACK) -> bytes:
    download(url, path, max_bytes=max_bytes, timeout_seconds=timeout, allowed_networks=allowed)
    return path.read_bytes()
