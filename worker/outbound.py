"""Talk to addresses that clients name, for `input_audio` and webhooks, without becoming their way into our network.

Each connection resolves its name once, checks every address that comes back, and connects to one of those very
addresses; names that change their mind in between, redirects and proxy variables change nothing.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urljoin

import httpcore

from predictions.addresses import ForbiddenAddress, IPNetwork, check_address, check_url

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 * 1024
USER_AGENT = "musicgen-server"


class DownloadError(Exception):
    """A foreign server could not be reached, may not be reached, or did not send what was asked for."""


class GuardedBackend(httpcore.NetworkBackend):
    """Connects to public addresses, and to the networks that the operator allowed."""

    def __init__(self, allowed_networks: Sequence[IPNetwork]) -> None:
        self._allowed = allowed_networks
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve once, check all, connect to the first. TLS goes on checking the name, not the address."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        addresses = [str(item[4][0]) for item in found]
        for address in addresses:
            check_address(address, self._allowed)
        return self._backend.connect_tcp(addresses[0], port, timeout, local_address, socket_options)


def download(
    url: str, destination: Path, *, max_bytes: int, timeout_seconds: float, allowed_networks: Sequence[IPNetwork]
) -> None:
    """Write what the URL holds into the file, following redirects. Raises DownloadError."""
    deadline = time.monotonic() + timeout_seconds
    with _pool(allowed_networks) as pool:
        for _ in range(MAX_REDIRECTS + 1):
            location = _fetch(pool, url, destination, max_bytes, deadline, allowed_networks)
            if location is None:
                return
            url = urljoin(url, location)
    raise DownloadError(f"{url} was reached by more than {MAX_REDIRECTS} redirects.")


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float, allowed_networks: Sequence[IPNetwork]
) -> tuple[int, dict[str, str]]:
    """POST the body; returns status and headers, whatever they are. Follows no redirect. Raises DownloadError."""
    deadline = time.monotonic() + timeout_seconds
    try:
        check_url(url, allowed_networks)
        with (
            _pool(allowed_networks) as pool,
            pool.stream(
                "POST",
                url,
                headers=_request_headers(headers),
                content=body,
                extensions=_timeouts(timeout_seconds),
            ) as answer,
        ):
            received = 0
            for chunk in answer.iter_stream():
                received += len(chunk)
                if received > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                    break
            return answer.status, {name.decode().lower(): value.decode() for name, value in answer.headers}
    except _FAILURES as error:
        raise DownloadError(_explain(url, error)) from error


def _fetch(
    pool: httpcore.ConnectionPool,
    url: str,
    destination: Path,
    max_bytes: int,
    deadline: float,
    allowed_networks: Sequence[IPNetwork],
) -> str | None:
    """Fetch one URL into the file; returns where it redirects to, if it does."""
    try:
        check_url(url, allowed_networks)
        left = max(deadline - time.monotonic(), 0.001)
        with pool.stream("GET", url, headers=_request_headers(), extensions=_timeouts(left)) as answer:
            location = dict(answer.headers).get(b"location", dict(answer.headers).get(b"Location"))
            if answer.status in (301, 302, 303, 307, 308) and location:
                return location.decode()
            if answer.status != 200:
                raise DownloadError(f"{url} answered with status {answer.status}.")
            _save(answer.iter_stream(), destination, max_bytes, deadline, url)
    except _FAILURES as error:
        raise DownloadError(_explain(url, error)) from error
    return None


def _save(chunks: Iterable[bytes], destination: Path, max_bytes: int, deadline: float, url: str) -> None:
    received = 0
    with destination.open("wb") as file:
        for chunk in chunks:
            received += len(chunk)
            if received > max_bytes:
                raise DownloadError(f"{url} holds more than {max_bytes} bytes; send a shorter or compressed file.")
            if time.monotonic() > deadline:
                raise DownloadError(f"{url} did not send the whole file in time.")
            file.write(chunk)


def _pool(allowed_networks: Sequence[IPNetwork]) -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=GuardedBackend(allowed_networks)
    )


def _request_headers(more: Mapping[str, str] = MappingProxyType({})) -> list[tuple[bytes | str, bytes | str]]:
    # Not compressed: the cap counts what is received.
    return [("User-Agent", USER_AGENT), ("Accept", "*/*"), ("Accept-Encoding", "identity"), *more.items()]


def _timeouts(seconds: float) -> dict[str, dict[str, float]]:
    connect = min(seconds, CONNECT_TIMEOUT_SECONDS)
    return {"timeout": {"connect": connect, "read": seconds, "write": seconds, "pool": seconds}}


_FAILURES = (
    ForbiddenAddress,
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    UnicodeError,
    OSError,
)


def _explain(url: str, error: Exception) -> str:
    if isinstance(error, ForbiddenAddress):
        return f"{url} may not be reached: {error}."
    if isinstance(error, httpcore.TimeoutException):
        return f"{url} did not answer in time."
    return f"{url} cannot be read: {error or type(error).__name__}."
