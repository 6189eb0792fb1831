"""Outbound requests to URLs that clients name, for `input_audio` and webhooks, guarded against request forgery (SSRF).

Each connection resolves its name once, checks every address that comes back, and connects to one of these. A name that
resolves differently the next time (DNS rebinding), a redirect or a proxy variable cannot lead anywhere else. One
deadline holds for the whole exchange, from the first look-up to the last byte, and a download can be stopped before it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpcore

from predictions.addresses import ForbiddenAddress, IPNetwork, ascii_url, check_url
from worker.network.guarded_backend import Deadline, GuardedBackend

MAX_REDIRECTS = 5
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
MAX_RESPONSE_BYTES = 64 * 1024
"""How much of the response to a POST is read."""

_HEADERS = {
    "User-Agent": "musicgen-server",
    "Accept": "*/*",
    # Not compressed: the size limit counts the bytes that are received.
    "Accept-Encoding": "identity",
}
_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    ValueError,  # a malformed URL or header
    OSError,
)

Stoppable = Callable[[Callable[[], object]], AbstractContextManager[object]]
"""Makes a block stoppable: given what ends the block's waiting at once, which another thread may then call."""


class RequestError(Exception):
    """The server could not be reached, may not be reached, or did not send what was asked for."""


def download(
    url: str,
    destination: Path,
    *,
    max_bytes: int,
    timeout_seconds: float,
    allowed_networks: Sequence[IPNetwork],
    stoppable: Stoppable = nullcontext,
) -> None:
    """Save the content of the URL as the file `destination`, following redirects. Raises RequestError.

    Whoever stops it has its connection closed at once, in whatever state that is.
    """
    with _Session(timeout_seconds, allowed_networks) as session, stoppable(session.stop):
        for _ in range(MAX_REDIRECTS + 1):
            redirected = _fetch(session, url, destination, max_bytes)
            if redirected is None:
                return
            url = redirected
    raise RequestError(f"{_shown(url)} was reached by more than {MAX_REDIRECTS} redirects.")


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float, allowed_networks: Sequence[IPNetwork]
) -> tuple[int, dict[str, str]]:
    """POST the body; returns the response's status and headers, whatever they are, the names in lower case.

    Follows no redirect. Raises RequestError where no response comes.
    """
    with (
        _Session(timeout_seconds, allowed_networks) as session,
        session.request("POST", url, headers, body) as response,
    ):
        _drain(response.iter_stream())
        return response.status, _headers_of(response)


class _Session:
    """The requests of one exchange: one deadline, one pool of guarded connections."""

    def __init__(self, timeout_seconds: float, allowed_networks: Sequence[IPNetwork]) -> None:
        self._allowed = allowed_networks
        self._deadline = Deadline(timeout_seconds)
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(), network_backend=GuardedBackend(allowed_networks, self._deadline)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def stop(self) -> None:
        """End the exchange at once, as its deadline would; called by another thread."""
        self._deadline.pass_now()

    @contextmanager
    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Iterator[httpcore.Response]:
        """Send a request; the response is read inside the block. Raises RequestError for all that goes wrong there."""
        sent = [*{**_HEADERS, **(headers or {})}.items()]
        try:
            check_url(url, self._allowed)
            with self._pool.stream(
                method, ascii_url(url), headers=sent, content=body, extensions=self._deadline.timeouts()
            ) as response:
                yield response
        except (ForbiddenAddress, *_FAILURES) as error:
            raise RequestError(_explain(url, error)) from error


def _fetch(session: _Session, url: str, destination: Path, max_bytes: int) -> str | None:
    """Save the content of one URL as the file; returns where it redirects to instead, if it does."""
    with session.request("GET", url) as response:
        location = _headers_of(response).get("location")
        if response.status in REDIRECT_STATUSES and location:
            return urljoin(url, location)
        if response.status != 200:
            raise RequestError(f"{_shown(url)} answered with status {response.status}.")
        _save(response.iter_stream(), destination, max_bytes, url)
    return None


def _save(chunks: Iterable[bytes], destination: Path, max_bytes: int, url: str) -> None:
    received = 0
    with destination.open("wb") as file:
        for chunk in chunks:
            received += len(chunk)
            if received > max_bytes:
                raise RequestError(f"{_shown(url)} holds more than {max_bytes} bytes; send a smaller file.")
            file.write(chunk)


def _drain(chunks: Iterable[bytes]) -> None:
    """Read the body of a response up to MAX_RESPONSE_BYTES. How it ends does not matter: the status has arrived."""
    received = 0
    try:
        for chunk in chunks:
            received += len(chunk)
            if received > MAX_RESPONSE_BYTES:
                return
    except _FAILURES:
        return


def _headers_of(response: httpcore.Response) -> dict[str, str]:
    return {name.decode().lower(): value.decode(errors="replace") for name, value in response.headers}


def _explain(url: str, error: Exception) -> str:
    if isinstance(error, ForbiddenAddress):
        return f"{_shown(url)} may not be reached: {error}."
    if isinstance(error, httpcore.TimeoutException):
        return f"{_shown(url)} did not answer in time."
    return f"{_shown(url)} cannot be read: {str(error) or type(error).__name__}."


def _shown(url: str) -> str:
    """The URL without its query and user, which may hold signatures, tokens or passwords that no log should show."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "The URL"
