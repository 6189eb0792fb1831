"""The network backend of httpcore that connects to checked addresses alone and ends every wait at one deadline."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

from predictions.addresses import IPNetwork, check_address

CONNECT_TIMEOUT_SECONDS = 10.0


class Deadline:
    """The moment by which a whole exchange must have ended, redirects included."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self, at_most: float | None = None) -> float:
        """Seconds until the deadline, or `at_most` where that is less. Raises httpcore.ReadTimeout after it."""
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        return remaining if at_most is None else min(remaining, at_most)

    def timeouts(self) -> dict[str, dict[str, float]]:
        """The request extension that sets httpcore's timeouts, each of which holds for a single read or write."""
        seconds = self.remaining()
        connect = min(seconds, CONNECT_TIMEOUT_SECONDS)
        return {"timeout": {"connect": connect, "read": seconds, "write": seconds, "pool": seconds}}


class GuardedBackend(httpcore.NetworkBackend):
    """Connects to public addresses and to the networks that the operator allows, and to no others."""

    def __init__(self, allowed_networks: Sequence[IPNetwork], deadline: Deadline) -> None:
        self._allowed = allowed_networks
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve the name once, check every address, and connect to the first that answers.

        TLS still verifies the name. Raises ForbiddenAddress, httpcore.ConnectError or httpcore.TimeoutException.
        """
        addresses = _resolve(host, port, self._deadline)
        for address in addresses:
            check_address(address, self._allowed)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                stream = self._backend.connect_tcp(
                    address, port, self._deadline.remaining(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream, self._deadline)
        raise failure


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline, so that a server cannot gain time by sending byte by byte."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.remaining(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.remaining(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.remaining(timeout))
        return _TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _resolve(host: str, port: int, deadline: Deadline) -> list[str]:
    """The addresses of a name, without duplicates. Uses a thread, because the system's look-up takes no timeout."""
    answers: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(item[4][0]) for item in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.remaining(CONNECT_TIMEOUT_SECONDS))
    except queue.Empty as error:
        raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
    if isinstance(answer, Exception):
        raise httpcore.ConnectError(f"{host} cannot be resolved") from answer
    return answer
