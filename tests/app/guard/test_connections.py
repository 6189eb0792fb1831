"""Connections that keep the API waiting, and connections without number."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from app.guard.connections import Connections, Patience, default_most
from predictions.models.card import Announcement
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server
from tests.app.guard.exchange import read_answer
from tests.servers import wait_until

SHORT = Patience(header=0.5, body=0.5, linger=0.5, unread=0.5, sweep=0.05)
LONG = Patience(header=600, body=600, linger=600, unread=600)
LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"),)
HALF = b"POST /predictions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = json.dumps({"input": {"prompt": "piano"}}).encode()
WHOLE = HALF + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY


@contextmanager
def serving(settings: Settings, registry: Connections) -> Iterator[int]:
    with api_server(settings, registry) as address:
        yield urlsplit(address).port or 0


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(data)
    return connection


@pytest.fixture
def port(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[int]:
    """The port of an API with little patience."""
    announce(CARD)
    with serving(settings, Connections(100, 100, patience=SHORT)) as port:
        yield port


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", 0),
        (HALF, 408),
        (b"\r\n", 408),
        (HALF + b"Content-Length: 100\r\n\r\n{", 408),
        (HALF + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{", 408),
    ],
)
def test_a_request_that_does_not_arrive_is_given_up(port: int, sent: bytes, answered: int) -> None:
    with connect(port, sent) as connection:
        assert read_answer(connection)[0] == answered
        assert connection.recv(1) == b""


def test_a_connection_that_sends_nothing_but_line_ends_after_an_answer_is_closed(port: int) -> None:
    with connect(port, WHOLE) as connection:
        assert read_answer(connection)[0] == 202
        connection.sendall(b"\r\n")
        assert read_answer(connection)[0] in (0, 408)


def test_the_rest_of_a_refused_body_is_not_waited_for(port: int) -> None:
    with connect(port, HALF.replace(b"/predictions", b"/nowhere") + b"Content-Length: 100\r\n\r\n{") as connection:
        assert read_answer(connection)[0] == 404
        assert connection.recv(1) == b""


def test_an_answer_that_nobody_reads_is_given_up(settings: Settings, announce: Callable[[Announcement], None]) -> None:
    announce(CARD)
    registry = Connections(100, 100, patience=SHORT)
    with serving(settings, registry) as port:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        page = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        # Until the buffers of both sides are full, and then until the server resets the connection.
        with connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(page * 100_000)


def test_a_request_that_waits_for_its_prediction_is_not_given_up(port: int) -> None:
    waiting = WHOLE.replace(b"Host:", b"Prefer: wait=2\r\nHost:")
    with connect(port, waiting) as connection:
        assert read_answer(connection)[0] == 202


def test_half_sent_requests_lock_nobody_out(settings: Settings, announce: Callable[[Announcement], None]) -> None:
    announce(CARD)
    with serving(settings, Connections(50, 50, LOOPBACK, LONG)) as port, ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(connect(port, HALF))
            if len(stack._exit_callbacks) > 200:  # noqa: SLF001
                stack.pop_all().close()
        for _ in range(10):
            with connect(port, WHOLE) as connection:
                assert read_answer(connection)[0] == 202


def test_where_all_are_being_served_another_is_refused(
    settings: Settings, announce: Callable[[Announcement], None]
) -> None:
    announce(CARD)
    registry = Connections(2, 2, LOOPBACK, LONG)
    with serving(settings, registry) as port:
        base = f"http://127.0.0.1:{port}"
        waiting = WHOLE.replace(b"Host:", b"Prefer: wait=60\r\nHost:")
        served = [connect(port, waiting) for _ in range(2)]
        wait_until(lambda: registry.serving == 2)
        with connect(port, WHOLE) as connection:
            assert read_answer(connection)[0] == 503
        for connection in served:
            connection.close()
        wait_until(lambda: registry.serving == 0)
        assert httpx.get(f"{base}/health-check", trust_env=False).status_code == 200


@pytest.mark.parametrize("proxies", [(), LOOPBACK])
def test_one_address_has_a_share_unless_it_is_a_proxy(
    settings: Settings, announce: Callable[[Announcement], None], proxies: tuple[ipaddress.IPv4Network, ...]
) -> None:
    announce(CARD)
    registry = Connections(10, 2, proxies, LONG)
    with serving(settings, registry) as port, ExitStack() as stack:
        waiting = WHOLE.replace(b"Host:", b"Prefer: wait=2\r\nHost:")
        served = [stack.enter_context(connect(port, waiting)) for _ in range(2)]
        wait_until(lambda: registry.serving == 2)
        third = stack.enter_context(connect(port, WHOLE))
        assert read_answer(third)[0] == (202 if proxies else 503)
        assert [read_answer(connection)[0] for connection in served] == [202, 202]


def test_as_many_connections_as_the_process_may_open_files_for() -> None:
    assert [default_most(files) for files in (100, 256, 1024, 65_536)] == [8, 80, 464, 10_000]
