"""Requests that come again because their connection broke, over real sockets."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from predictions.record import commands
from predictions.record.store import PredictionStore
from tests.javascript import node
from tests.servers import wait_until

BODY = {"input": {"prompt": "the same for all"}}


@pytest.fixture
def ids(redis_url: str) -> Iterator[Callable[[], set[str]]]:
    """The ids of all predictions."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield lambda: {key.rpartition(":")[2] for key in client.scan_iter("musicgen:prediction:*", count=1000)}


def reset(connection: socket.socket) -> None:
    """Close it as a break does: with RST, whatever is on its way."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def send(client: httpx.Client, path: str = "/predictions", **headers: str) -> socket.socket:
    url = urlsplit(str(client.base_url))
    assert url.hostname is not None
    connection = socket.create_connection((url.hostname, url.port or 80))
    content = json.dumps(BODY).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(content)}",
        "Content-Type: application/json",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)
    return connection


def lose(client: httpx.Client, ids: Callable[[], set[str]], *, wait: bool = False) -> str:
    """A request that is accepted and whose answer nobody reads; returns its prediction."""
    before = ids()
    connection = send(client, Prefer="wait=1") if wait else send(client)
    wait_until(lambda: ids() != before)
    reset(connection)
    [made] = ids() - before
    return made


@pytest.mark.parametrize("wait", [False, True])
def test_the_next_identical_request_gets_the_lost_ones_prediction(
    client: httpx.Client, ids: Callable[[], set[str]], redis_url: str, wait: bool
) -> None:
    lost = lose(client, ids, wait=wait)
    wait_until(lambda: bool(redis.Redis.from_url(redis_url).keys("musicgen:offered:*")))
    other = client.post("/predictions", json={"input": {"prompt": "another"}}).json()
    again = client.post("/predictions", json=BODY).json()
    assert (again["id"], other["id"] != lost) == (lost, True)
    assert client.post("/predictions", json=BODY).json()["id"] != lost


def test_a_retry_that_is_lost_too_is_still_the_same(client: httpx.Client, ids: Callable[[], set[str]]) -> None:
    lost = lose(client, ids)
    for _ in range(3):
        reset(send(client))
    assert client.post("/predictions", json=BODY).json()["id"] == lost
    assert ids() == {lost}


def test_two_that_are_lost_at_once_are_still_two(
    client: httpx.Client, ids: Callable[[], set[str]], redis_url: str
) -> None:
    connections = [send(client) for _ in range(2)]
    wait_until(lambda: len(ids()) == 2)
    made = ids()
    for connection in connections:
        reset(connection)
    with redis.Redis.from_url(redis_url) as offered:
        wait_until(lambda: sum(offered.llen(key) for key in offered.keys("musicgen:offered:*")) == 2)
    assert {client.post("/predictions", json=BODY).json()["id"] for _ in range(2)} == made == ids()


def test_identical_requests_on_purpose_are_as_many_predictions(
    client: httpx.Client, ids: Callable[[], set[str]]
) -> None:
    base_url = str(client.base_url)
    for _ in range(3):
        # Each over a connection of its own that is closed in order.
        assert httpx.post(f"{base_url}/predictions", json=BODY, trust_env=False).status_code == 202
    assert len(ids()) == 3
    connections = [send(client) for _ in range(4)]
    assert all(b"202" in connection.recv(9000) for connection in connections)
    for connection in connections:
        connection.close()
    assert len(ids()) == 7


def test_pipelined_requests_whose_answers_were_read_are_not_offered(
    client: httpx.Client, ids: Callable[[], set[str]]
) -> None:
    url = urlsplit(str(client.base_url))
    content = json.dumps(BODY).encode()
    request = b"POST /predictions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request += f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    with socket.create_connection((url.hostname or "", url.port or 80)) as connection:
        connection.sendall(request + request)
        answers = b""
        while answers.count(b'"id"') < 2:
            answers += connection.recv(65536)
    read = ids()
    assert len(read) == 2
    assert client.post("/predictions", json=BODY).json()["id"] not in read


def test_no_other_token_gets_it(client: httpx.Client, store: PredictionStore, redis_url: str) -> None:
    theirs = client.post("/predictions", json=BODY).json()["id"]
    with redis.Redis.from_url(redis_url, decode_responses=True) as records:
        owner, digest = records.hmget(f"musicgen:prediction:{theirs}", "owner", "digest")
    store.run(commands.offer("somebody else", digest, theirs, 60))
    assert client.post("/predictions", json=BODY).json()["id"] != theirs
    store.run(commands.offer(owner, digest, theirs, 60))
    assert client.post("/predictions", json=BODY).json()["id"] == theirs


def test_a_request_with_a_key_or_an_id_goes_by_that(client: httpx.Client, ids: Callable[[], set[str]]) -> None:
    lost = lose(client, ids)
    keyed = client.post("/predictions", json=BODY, headers={"Idempotency-Key": "mine"}).json()
    named = client.put("/predictions/my-own", json=BODY).json()
    assert (keyed["id"] != lost, named["id"]) == (True, "my-own")


@contextmanager
def breaking_proxy(address: str, ids: Callable[[], set[str]]) -> Iterator[str]:
    """Drops every second connection that posts, right after its request was accepted."""
    url = urlsplit(address)
    listener = socket.create_server(("127.0.0.1", 0))
    posts = 0

    def serve() -> None:
        nonlocal posts
        while True:
            try:
                downstream, _ = listener.accept()
            except OSError:
                return
            request = downstream.recv(65_536)
            while b"\r\n\r\n" not in request or (request.startswith(b"POST") and not request.endswith(b"}")):
                request += downstream.recv(65_536)
            assert url.hostname is not None
            upstream = socket.create_connection((url.hostname, url.port or 80))
            before = ids()
            upstream.sendall(request)
            posts += 1
            if posts % 2:
                wait_until(lambda before=before: ids() != before)
                reset(upstream)
                reset(downstream)
                continue
            answer = upstream.recv(65_536)
            while not answer.endswith(b"}"):
                answer += upstream.recv(65_536)
            downstream.sendall(answer)
            # One request a connection, so that each can be dropped.
            upstream.close()
            downstream.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_one_prediction_a_call_of_the_javascript_client(client: httpx.Client, ids: Callable[[], set[str]]) -> None:
    """Each of a hundred calls has its first connection dropped after the request was accepted."""
    version = client.get("/models").json()["results"][0]["versions"][0]
    with breaking_proxy(str(client.base_url), ids) as address:
        said = node("broken_connections.mjs", BASE_URL=address, VERSION=version)
    made = json.loads(said)
    assert len(set(made)) == 100
    assert len(ids()) == 100
