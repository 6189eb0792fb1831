"""A request that is sent again, side by side or because its connection broke, makes no second prediction."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.deployment import Deployment
from tests.faults.proxy import TcpProxy
from tests.faults.report import Report
from tests.javascript import node, node_modules
from tests.servers import wait_until

AT_ONCE = 100
PUTS_AT_ONCE = 50
THREADS = 25
END_SECONDS = 90.0
CALLS = """
import Replicate from "replicate";

const { BASE_URL, CONTROL, VERSION, CALLS } = process.env;
const client = new Replicate({ auth: "none is asked for", baseUrl: `${BASE_URL}/v1` });
const ids = [];
for (let i = 0; i < Number(CALLS); i++) {
  await (await fetch(CONTROL)).text();
  const input = { prompt: "the same", duration: 1 };
  ids.push((await client.predictions.create({ version: VERSION, input })).id);
}
console.log(JSON.stringify(ids));
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("repeats"), apis=2) as deployment:
        yield deployment


def all_with_prompt(service: Deployment, prompt: str) -> list[str]:
    """The ids of all predictions that were asked for with this prompt."""
    found: list[str] = []
    path: str | None = "/predictions?limit=100"
    while path:
        page = service.client().get(path).json()
        found += [body["id"] for body in page["results"] if body["input"]["prompt"] == prompt]
        path = page["next"]
    return found


def side_by_side(service: Deployment, requests: list[httpx.Request]) -> list[httpx.Response]:
    """Send them all at once, in turn to each API."""
    together = threading.Barrier(min(THREADS, len(requests)))

    def send(numbers: range) -> list[httpx.Response]:
        together.wait()
        return [service.client(n % 2).send(requests[n]) for n in numbers]

    count = together.parties
    with ThreadPoolExecutor(count) as pool:
        shares = pool.map(send, [range(first, len(requests), count) for first in range(count)])
        return [answer for share in shares for answer in share]


def accepted_ids(answers: list[httpx.Response]) -> set[str]:
    """The ids in all these answers, each of which accepts: 202, or 200 once the prediction has ended."""
    assert {answer.status_code for answer in answers} <= {200, 202}, Counter(answer.text for answer in answers)
    return {answer.json()["id"] for answer in answers}


def test_one_idempotency_key(
    service: Deployment, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    rounds = tries(1, 10)
    doubled = 0
    ended = {}
    for n in range(rounds):
        key, prompt = f"key {n} {choice.random()}", f"with one key, round {n}"
        value = {"prompt": prompt, "duration": choice.randint(1, 3)}
        headers = {"Idempotency-Key": key}

        def request(api: int, value: dict[str, Any] = value, headers: dict[str, str] = headers) -> httpx.Request:
            return service.client(api).build_request("POST", "/predictions", json={"input": value}, headers=headers)

        made = accepted_ids(side_by_side(service, [request(number % 2) for number in range(AT_ONCE)]))
        others = [service.client(api).send(request(api, {**value, "prompt": "another"})) for api in (0, 1)]
        assert [answer.status_code for answer in others] == [422, 422]
        ended |= service.wait_all([*made], END_SECONDS)
        made |= accepted_ids([service.client(api).send(request(api)) for api in (0, 1)])
        made |= {*all_with_prompt(service, prompt)}
        doubled += len(made) - 1
        assert all(len(service.objects(prediction_id)) == 1 for prediction_id in made)
    lost = sum(body["status"] != "succeeded" for body in ended.values())
    report.add("100 POSTs at once with one Idempotency-Key", rounds, lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)
    assert all_with_prompt(service, "another") == []


def test_one_id(service: Deployment, tries: Callable[[int, int], int], choice: random.Random, report: Report) -> None:
    rounds = tries(1, 10)
    doubled = 0
    ended = {}
    for n in range(rounds):
        prediction_id, prompt = f"own-{n}-{choice.getrandbits(32)}", f"with an own id, round {n}"
        path, value = f"/predictions/{prediction_id}", {"prompt": prompt, "duration": choice.randint(1, 3)}
        requests = [
            service.client(number % 2).build_request("PUT", path, json={"input": value})
            for number in range(PUTS_AT_ONCE)
        ]
        made = accepted_ids(side_by_side(service, requests))
        other = service.client(n % 2).put(path, json={"input": {**value, "prompt": "another"}})
        assert other.status_code == 409
        ended |= service.wait_all([prediction_id], END_SECONDS)
        doubled += len(made | {*all_with_prompt(service, prompt)}) - 1
        assert len(service.objects(prediction_id)) == 1
    lost = sum(body["status"] != "succeeded" for body in ended.values())
    report.add("50 PUTs at once with one id", rounds, lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)


def has_begun(service: Deployment, prediction_id: str) -> bool:
    return bool(service.client().get(f"/predictions/{prediction_id}").json()["status"] != "starting")


def test_one_deadline(
    service: Deployment, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    """Requests at once, with a deadline that passes while the only worker that generates is stopped."""
    rounds = tries(1, 5)
    lost = doubled = 0
    for n in range(rounds):
        prompt = f"with a deadline, round {n}"
        headers = {"Idempotency-Key": f"deadline {n} {choice.random()}", "Cancel-After": "5s"}
        body = {"input": {"prompt": prompt, "duration": 30}}
        running = service.client().post("/predictions", json=body, headers={"Cancel-After": "5s"}).json()["id"]
        wait_until(partial(has_begun, service, running))
        service.stop("worker-0")
        try:
            requests = [
                service.client(number % 2).build_request("POST", "/predictions", json=body, headers=headers)
                for number in range(THREADS)
            ]
            made = accepted_ids(side_by_side(service, requests)) | {running}
            ended = service.wait_all([*made], END_SECONDS)
        finally:
            service.cont("worker-0")
        doubled += len({*all_with_prompt(service, prompt)} | made) - 2
        # The first one may have ended before the worker was stopped.
        lost += sum("deadline" not in (body["error"] or "") for key, body in ended.items() if key != running)
    after = service.wait_all([service.post(service.client(), prompt="after that", duration=1)], END_SECONDS)
    lost += sum(body["status"] != "succeeded" for body in after.values())
    report.add("25 POSTs at once with one key and a deadline, worker stopped", rounds, lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)


@contextmanager
def control(act: Callable[[], object]) -> Iterator[str]:
    """A URL that a client reads to have something done."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            act()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_replicates_javascript_client(service: Deployment, tries: Callable[[int, int], int], report: Report) -> None:
    """All calls ask for the same, and each has its first connection dropped after the request was accepted."""
    calls = tries(3, 100)
    version = service.client().get("/models").json()["results"][0]["versions"][0]
    node_modules()
    happened: list[threading.Event] = []
    with TcpProxy(("127.0.0.1", urlsplit(service.base_url()).port or 0)) as proxy:

        def drop_next() -> None:
            assert all(event.is_set() for event in happened)
            happened.append(proxy.drop_next_reply(b"POST /v1/predictions"))

        with control(drop_next) as address:
            said = node(
                "--input-type=module",
                "--eval",
                CALLS,
                BASE_URL=f"http://127.0.0.1:{proxy.port}",
                CONTROL=address,
                VERSION=version,
                CALLS=str(calls),
            )
        assert len(happened) == calls
        assert all(event.is_set() for event in happened)
    ids = json.loads(said)
    made = all_with_prompt(service, "the same")
    ended = service.wait_all(made, END_SECONDS)
    lost = sum(body["status"] != "succeeded" for body in ended.values())
    doubled = len(set(made) - set(ids))
    report.add("Replicate's JavaScript client, connection dropped after acceptance", calls, lost=lost, doubled=doubled)
    assert len(set(ids)) == calls
    assert sorted(made) == sorted(ids)
    assert lost == 0
