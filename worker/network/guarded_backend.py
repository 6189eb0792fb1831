"""The network backend of httpcore that connects to checked addresses alone and ends every wait at one deadline."""

from __future__ import annotations

import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import httpcore

from predictions.addresses import IPNetwork, check_address

CONNECT_TIMEOUT_SECONDS = 10.0

Address = tuple[socket.AddressFamily, Any]
"""An address family and the address as `socket.connect` takes it."""


class Deadline:
    """The moment by which a whole exchange must have ended, redirects included. A thread may let it pass early."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], object]] = []

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

    def pass_now(self) -> None:
        """Let it pass at once: whatever waits for the other side is woken, and connections are shut down."""
        with self._lock:
            self._end = 0.0
            for wake in self._wakers:
                wake()

    def add_waker(self, wake: Callable[[], object]) -> None:
        """Have `wake` called where the deadline is let pass early; at once where it has been already."""
        with self._lock:
            self._wakers.append(wake)
            if not self._end:
                wake()

    def remove_waker(self, wake: Callable[[], object]) -> None:
        """Call it no more: once this returns, it is not being called either."""
        with self._lock:
            self._wakers.remove(wake)


class GuardedBackend(httpcore.NetworkBackend):
    """Connects to public addresses and to the networks that the operator allows, and to no others."""

    def __init__(self, allowed_networks: Sequence[IPNetwork], deadline: Deadline) -> None:
        self._allowed = allowed_networks
        self._deadline = deadline

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
        for _, address in addresses:
            check_address(str(address[0]), self._allowed)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for family, address in addresses:
            connection = _Connection(socket.socket(family, socket.SOCK_STREAM), self._deadline)
            try:
                connection.set_up(socket_options or (), local_address)
                connection.connect(address, timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise failure


class _Connection(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline, so that a server cannot gain time by sending byte by byte."""

    def __init__(self, opened: socket.socket, deadline: Deadline) -> None:
        self._socket = opened
        self._deadline = deadline
        # A descriptor of its own: TLS takes the first one over, and closing that must not race with shutting down.
        self._handle = opened.dup()
        self._is_closed = False
        deadline.add_waker(self._shut_down)

    def set_up(self, options: Iterable[httpcore.SOCKET_OPTION], local_address: str | None) -> None:
        """Set the socket's options and the address that it connects from."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in options:
            self._socket.setsockopt(*option)
        if local_address is not None:
            self._socket.bind((local_address, 0))

    def connect(self, address: Any, timeout: float | None) -> None:
        """Connect to an address that has been checked. Raises httpcore.ConnectError and httpcore.TimeoutException."""
        with self._waiting(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
            self._socket.connect(address)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with self._waiting(timeout, httpcore.ReadTimeout, httpcore.ReadError):
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = memoryview(buffer)
        while left:
            with self._waiting(timeout, httpcore.WriteTimeout, httpcore.WriteError):
                left = left[self._socket.send(left) :]

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._deadline.remove_waker(self._shut_down)
        self._handle.close()
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            with self._waiting(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
                self._socket = ssl_context.wrap_socket(
                    self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
                )
                self._socket.do_handshake()
        except BaseException:
            self.close()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "socket":
            return self._socket
        return self._is_readable() if info == "is_readable" else None

    @contextmanager
    def _waiting(self, timeout: float | None, too_late: type[Exception], failed: type[Exception]) -> Iterator[None]:
        """Wait for the other side inside the block, until the deadline at the latest; errors become httpcore's."""
        self._socket.settimeout(self._deadline.remaining(timeout))
        try:
            yield
        except TimeoutError as error:
            raise too_late(str(error)) from error
        except OSError as error:
            self._deadline.remaining()
            raise failed(str(error)) from error
        # A connection that was shut down because the deadline was let pass looks like one that has ended well.
        self._deadline.remaining()

    def _shut_down(self) -> None:
        with suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)

    def _is_readable(self) -> bool:
        """Whether there is something to read; on an idle connection that is its end."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))


def _resolve(host: str, port: int, deadline: Deadline) -> list[Address]:
    """The addresses of a name, without duplicates. Uses a thread, because the system's look-up takes no timeout."""
    answers: queue.SimpleQueue[list[Address] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys((item[0], item[4]) for item in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    def wake() -> None:
        answers.put(OSError("the deadline has passed"))

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    deadline.add_waker(wake)
    try:
        answer = answers.get(timeout=deadline.remaining(CONNECT_TIMEOUT_SECONDS))
    except queue.Empty as error:
        raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
    finally:
        deadline.remove_waker(wake)
    if isinstance(answer, Exception):
        raise httpcore.ConnectError(f"{host} cannot be resolved") from answer
    return answer
