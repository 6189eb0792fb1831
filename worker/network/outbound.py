"""Talk to addresses that clients name, for `input_audio` and webhooks, without becoming their way into our network.

Each connection resolves its name once, checks every address that comes back, and connects to one of those very
addresses; names that change their mind in between, redirects and proxy variables change nothing. One deadline holds for
all of it, from the first look-up to the last byte.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpcore

from predictions.addresses import ForbiddenAddress, IPNetwork, ascii_url, check_url
from worker.network.guarded import Deadline, GuardedBackend

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_ANSWER_BYTES = 64 * 1024
USER_AGENT = "musicgen-server"
_UNREACHABLE = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    ValueError,  # a URL or header that is none
    OSError,
)


class DownloadError(Exception):
    """A foreign server could not be reached, may not be reached, or did not send what was asked for."""


def download(
    url: str, destination: Path, *, max_bytes: int, timeout_seconds: float, allowed_networks: Sequence[IPNetwork]
) -> None:
    """Write what the URL holds into the file, following redirects. Raises DownloadError."""
    deadline = Deadline(timeout_seconds)
    with _pool(allowed_networks, deadline) as pool:
        for _ in range(MAX_REDIRECTS + 1):
            redirected = _fetch(pool, url, destination, max_bytes, deadline, allowed_networks)
            if redirected is None:
                return
            url = redirected
    raise DownloadError(f"{_shown(url)} was reached by more than {MAX_REDIRECTS} redirects.")


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float, allowed_networks: Sequence[IPNetwork]
) -> tuple[int, dict[str, str]]:
    """POST the body; returns status and headers, whatever they are. Follows no redirect. Raises DownloadError."""
    deadline = Deadline(timeout_seconds)
    try:
        check_url(url, allowed_networks)
        sent = list({**_HEADERS, **headers}.items())
        with (
            _pool(allowed_networks, deadline) as pool,
            pool.stream("POST", ascii_url(url), headers=sent, content=body, extensions=deadline.timeouts()) as answer,
        ):
            _drain(answer.iter_stream())
            return answer.status, _headers_of(answer)
    except (ForbiddenAddress, *_UNREACHABLE) as error:
        raise DownloadError(_explain(url, error)) from error


def _fetch(
    pool: httpcore.ConnectionPool,
    url: str,
    destination: Path,
    max_bytes: int,
    deadline: Deadline,
    allowed_networks: Sequence[IPNetwork],
) -> str | None:
    """Fetch one URL into the file; returns where it redirects to, if it does."""
    try:
        check_url(url, allowed_networks)
        with pool.stream(
            "GET", ascii_url(url), headers=list(_HEADERS.items()), extensions=deadline.timeouts()
        ) as answer:
            location = _headers_of(answer).get("location")
            if answer.status in REDIRECTS and location:
                return urljoin(url, location)
            if answer.status != 200:
                raise DownloadError(f"{_shown(url)} answered with status {answer.status}.")
            _save(answer.iter_stream(), destination, max_bytes, url)
    except (ForbiddenAddress, *_UNREACHABLE) as error:
        raise DownloadError(_explain(url, error)) from error
    return None


def _save(chunks: Iterable[bytes], destination: Path, max_bytes: int, url: str) -> None:
    received = 0
    with destination.open("wb") as file:
        for chunk in chunks:
            received += len(chunk)
            if received > max_bytes:
                raise DownloadError(f"{_shown(url)} holds more than {max_bytes} bytes; send a smaller file.")
            file.write(chunk)


def _drain(chunks: Iterable[bytes]) -> None:
    """Read an answer's body, up to a bound. The status has come: how the body ends changes nothing."""
    received = 0
    try:
        for chunk in chunks:
            received += len(chunk)
            if received > MAX_ANSWER_BYTES:
                return
    except _UNREACHABLE:
        return


def _pool(allowed_networks: Sequence[IPNetwork], deadline: Deadline) -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=GuardedBackend(allowed_networks, deadline)
    )


# Not compressed: the cap counts what is received.
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}


def _headers_of(answer: httpcore.Response) -> dict[str, str]:
    return {name.decode().lower(): value.decode(errors="replace") for name, value in answer.headers}


def _explain(url: str, error: Exception) -> str:
    if isinstance(error, ForbiddenAddress):
        return f"{_shown(url)} may not be reached: {error}."
    if isinstance(error, httpcore.TimeoutException):
        return f"{_shown(url)} did not answer in time."
    return f"{_shown(url)} cannot be read: {str(error) or type(error).__name__}."


def _shown(url: str) -> str:
    """The URL without its query, which may hold somebody's signature or token and is no matter for a log."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "The URL"
