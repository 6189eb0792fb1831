"""Predictions that are cancelled, or deleted and asked for again, at any moment."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from predictions.record import commands
from predictions.record.schema import EventName
from predictions.record.store import PredictionStore
from tests.dripping_server import tone
from tests.faults.deployment import ENDED, Deployment
from tests.faults.report import Report
from tests.servers import wait_until

AT_ONCE = 4
END_SECONDS = 90.0
STOPPED_SECONDS = 60.0
DRIP_SECONDS = 0.1
SEEN_SECONDS = 0.5
"""For how long a canceled prediction is watched for a second end."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("cancels")) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def store(service: Deployment) -> Iterator[PredictionStore]:
    store = PredictionStore(service.redis_url)
    yield store
    store.close()


def read(service: Deployment, prediction_id: str) -> dict[str, Any]:
    body: dict[str, Any] = service.client().get(f"/predictions/{prediction_id}").json()
    return body


@dataclass
class Canceled:
    """A prediction that was cancelled: what the answer said, and when, by time.monotonic."""

    prediction_id: str
    body: dict[str, Any]
    asked_at: float
    stopped_after: float | None = None
    """Seconds until the worker stopped, where it had begun."""


def test_canceled_at_any_moment(
    service: Deployment,
    store: PredictionStore,
    tries: Callable[[int, int], int],
    choice: random.Random,
    report: Report,
) -> None:
    count = tries(12, 100)
    plans = [(choice.choice((1, 2, 4, 8)), choice.uniform(0.0, 1.0)) for _ in range(count)]

    def cancel(plan: tuple[int, float]) -> Canceled:
        duration, moment = plan
        prediction_id = service.post(service.client(), prompt="to be cancelled", duration=duration)
        # From before it begins until after it has ended.
        time.sleep(moment * (0.3 + 0.25 * duration))
        asked_at = time.monotonic()
        answer = service.client().post(f"/predictions/{prediction_id}/cancel")
        assert answer.status_code == 200, answer.text
        canceled = Canceled(prediction_id, answer.json(), asked_at)
        if canceled.body["status"] == "canceled" and canceled.body["started_at"]:
            # The worker's word, for the record shows the end at once.
            wait_until(lambda: f"{prediction_id} was stopped" in service.log("worker-0"), seconds=STOPPED_SECONDS)
            canceled.stopped_after = time.monotonic() - asked_at
        return canceled

    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(cancel, plans))
    time.sleep(SEEN_SECONDS)
    stuck = sum(item.body["status"] not in ENDED for item in done)
    wrong = {}
    for item in done:
        body = read(service, item.prediction_id)
        events = store.run(commands.events(item.prediction_id)) or []
        ends = [event.data for event in events if event.name is EventName.STATUS and event.data in ENDED]
        objects = service.objects(item.prediction_id)
        same = all(body[name] == item.body[name] for name in ("status", "completed_at", "error"))
        if not same or ends != [body["status"]] or len(objects) != (body["status"] == "succeeded"):
            wrong[item.prediction_id] = (item.body, body, ends, objects)
    times = [item.stopped_after for item in done if item.stopped_after is not None]
    report.add("cancel at a random moment", count, doubled=len(wrong), stuck=stuck, recovery=times)
    assert not wrong
    assert stuck == 0
    assert times
    assert {item.body["status"] for item in done} <= {"canceled", "succeeded"}
    after = service.wait_all([service.post(service.client(), prompt="after that", duration=1)], END_SECONDS)
    assert [body["status"] for body in after.values()] == ["succeeded"]


@dataclass
class SlowServer:
    """Sends a file a little at a time; `/whole/` ends well after `seconds`, `/broken/` breaks off then."""

    url: str = ""
    started: dict[str, threading.Event] = field(default_factory=dict)
    closed: threading.Event = field(default_factory=threading.Event)

    def expect(self, path: str) -> threading.Event:
        """An event that is set once somebody reads this path and has got its begin."""
        return self.started.setdefault(path, threading.Event())


@contextmanager
def slow_server(seconds: float) -> Iterator[SlowServer]:
    state = SlowServer()
    content = tone(1.0)
    pieces = round(seconds / DRIP_SECONDS)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "audio/wav")
            self.send_header("Content-Length", str(len(content)))
            self.close_connection = True
            try:
                self.end_headers()
                size = len(content) // (pieces + 1)
                for number in range(pieces):
                    self.wfile.write(content[number * size : (number + 1) * size])
                    state.expect(self.path).set()
                    if state.closed.wait(DRIP_SECONDS):
                        return
                if self.path.startswith("/whole/"):
                    self.wfile.write(content[pieces * size :])
            except ConnectionError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            state.closed.set()
            server.shutdown()
            thread.join()


@dataclass
class Replaced:
    """A prediction that took the id of one that was deleted while it ran, and all that was seen of it."""

    prediction_id: str
    value: dict[str, Any]
    bodies: list[dict[str, Any]]
    seconds: float

    def wrongs(self, objects: list[str]) -> list[str]:
        """What is wrong with it."""
        seed = self.value["seed"]
        wrong = [f"input {body['input']}" for body in self.bodies if body["input"]["prompt"] != self.value["prompt"]]
        wrong += [f"error {body['error']}" for body in self.bodies if body["error"]]
        for body in self.bodies:
            others = set(re.findall(r"Using seed (\d+)", body["logs"])) - {str(seed)}
            wrong += [f"logs {body['logs']!r}"] if others or body["logs"].count("Using seed") > 1 else []
            # At 50 steps a second, and 3 more.
            total = (body["progress"] or {}).get("total_steps") or 0
            wrong += [f"progress {body['progress']}"] if total > 50 * self.value["duration"] + 10 else []
        last = self.bodies[-1]
        if last["status"] != "succeeded":
            wrong.append(f"status {last['status']}")
        elif last["metrics"]["duration"] != self.value["duration"] or last["metrics"]["seed"] != seed:
            wrong.append(f"metrics {last['metrics']}")
        elif len(objects) != 1 or objects[0] not in last["output"]:
            wrong.append(f"objects {objects}, output {last['output']}")
        return wrong


def replace(service: Deployment, prediction_id: str, value: dict[str, Any], linger: float) -> Replaced:
    """DELETE, PUT with another input at once, and follow it to its end and for a while after."""
    path = f"/predictions/{prediction_id}"
    asked_at = time.monotonic()
    deleted = service.client().delete(path)
    answer = service.client().put(path, json={"input": value})
    assert (deleted.status_code, answer.status_code) == (204, 202), (deleted.text, answer.text)
    bodies = [answer.json()]
    while bodies[-1]["status"] not in ENDED and time.monotonic() < asked_at + END_SECONDS:
        bodies.append(read(service, prediction_id))
        time.sleep(0.02)
    seconds = time.monotonic() - asked_at
    time.sleep(linger)
    return Replaced(prediction_id, value, [*bodies, read(service, prediction_id)], seconds)


def check(service: Deployment, report: Report, name: str, done: list[Replaced]) -> None:
    stuck = sum(item.bodies[-1]["status"] not in ENDED for item in done)
    wrong = {item.prediction_id: found for item in done if (found := item.wrongs(service.objects(item.prediction_id)))}
    times = [item.seconds for item in done]
    report.add(name, len(done), lost=len(wrong), stuck=stuck, recovery=times)
    assert not wrong
    assert stuck == 0


def test_deleted_while_it_runs_and_asked_for_again(
    service: Deployment, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    count = tries(3, 30)
    plans = [(n, choice.uniform(0.0, 0.5), choice.randint(1, 3)) for n in range(count)]

    def try_once(plan: tuple[int, float, int]) -> Replaced:
        n, moment, duration = plan
        prediction_id = f"again-{n}"
        path = f"/predictions/{prediction_id}"
        old = {"prompt": "the old one", "duration": 30, "seed": 1000 + n}
        assert service.client().put(path, json={"input": old}).status_code == 202
        wait_until(lambda: read(service, prediction_id)["status"] == "processing", seconds=END_SECONDS)
        time.sleep(moment)
        assert read(service, prediction_id)["status"] == "processing"
        return replace(service, prediction_id, {"prompt": "the new one", "duration": duration, "seed": 2000 + n}, 0.5)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(try_once, plans))
    check(service, report, "DELETE while it runs, PUT of the same id", done)


def test_deleted_while_its_audio_is_fetched_and_asked_for_again(
    service: Deployment, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    """The old one's download ends, well or badly, while the new one waits, runs or has ended."""
    count, download_seconds = tries(3, 30), 2.0
    plans = [(n, choice.uniform(0.0, download_seconds * 0.9), choice.randint(1, 3)) for n in range(count)]

    def try_once(plan: tuple[int, float, int]) -> Replaced:
        n, moment, duration = plan
        prediction_id = f"fetched-{n}"
        audio = f"/{'whole' if n % 2 else 'broken'}/{n}.wav"
        old = {"prompt": "the old one", "duration": 30, "seed": 1000 + n, "input_audio": server.url + audio}
        reached = server.expect(audio)
        answer = service.client().put(f"/predictions/{prediction_id}", json={"input": old})
        assert answer.status_code == 202, answer.text
        assert reached.wait(END_SECONDS)
        time.sleep(moment)
        assert read(service, prediction_id)["status"] == "processing"
        new = {"prompt": "the new one", "duration": duration, "seed": 2000 + n}
        return replace(service, prediction_id, new, download_seconds - moment + 0.5)

    with slow_server(download_seconds) as server, ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(try_once, plans))
    check(service, report, "DELETE while its audio is fetched, PUT of the same id", done)
