"""Connections to Redis break, stall, or lose an answer: clients see nothing of it that they could not act upon.

Redis, its proxy and the processes are those of one deployment; each test leaves it whole.
"""

from __future__ import annotations

import json
import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, pairwise
from typing import Any

import httpx
import pytest
import redis

from predictions.record import commands
from predictions.record.events import position
from predictions.record.store import PredictionStore
from tests.faults.deployment import ENDED, Deployment
from tests.faults.report import Report
from tests.server_sent_events import Message, read_events
from tests.servers import wait_until

APIS = 2
THREADS = 4
FIRST_REQUESTS = 32
OUTSTANDING = 6
END_SECONDS = 120.0
"""How long after the last fault everything may take to end."""
WAIT_SLACK_SECONDS = 10.0
"""How long after the end of a prediction a request that waits for it may take to be answered."""
STREAM_TIMEOUT = httpx.Timeout(10, read=90)
RATE, HEADER_BYTES = 32_000, 44

Tries = Callable[[int, int], int]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("connections")
    with Deployment(folder, apis=APIS, workers=1, supervised=True) as deployment:
        yield deployment


@pytest.fixture
def deployment(shared: Deployment) -> Iterator[Deployment]:
    """The deployment, whole; afterwards it is made whole again, and no process may have ended by itself."""
    before = shared.restarts.copy()
    try:
        yield shared
    finally:
        shared.redis_proxy.release()
        shared.redis_proxy.dropped_requests.clear()
        shared.redis_proxy.dropped_replies.clear()
        shared.start("redis")
        shared.wait_ready()
    assert shared.restarts == before, f"ended by themselves: {shared.restarts - before}\n{shared.log_tails()}"


# What the tests ask of the service.


def await_ends(deployment: Deployment, ids: Iterable[str], seconds: float = END_SECONDS) -> dict[str, dict[str, Any]]:
    """Poll until all have ended or the time is over; the bodies of those that have."""
    deadline = time.monotonic() + seconds
    waiting, bodies = set(ids), dict[str, dict[str, Any]]()
    while waiting and time.monotonic() < deadline:
        for prediction_id in sorted(waiting):
            body = body_of(deployment, prediction_id)
            if body and body["status"] in ENDED:
                bodies[prediction_id] = body
                waiting.discard(prediction_id)
        time.sleep(0.05)
    return bodies


def body_of(deployment: Deployment, prediction_id: str) -> dict[str, Any] | None:
    """The prediction as it stands; None where the service does not say."""
    with suppress(httpx.TransportError):
        answer = deployment.client().get(f"/predictions/{prediction_id}", timeout=15)
        if answer.is_success:
            body: dict[str, Any] = answer.json()
            return body
    return None


def ids_by_prompt(deployment: Deployment) -> dict[str, list[str]]:
    """The ids of all predictions in the list, by prompt."""
    found: dict[str, list[str]] = {}
    url: str | None = "/predictions?limit=100"
    while url:
        page = deployment.client().get(url).raise_for_status().json()
        for item in page["results"]:
            found.setdefault(item["input"]["prompt"], []).append(item["id"])
        url = page["next"]
    return found


def follow(url: str, opened: threading.Event) -> list[Message]:
    """All server-sent events of one connection."""
    with httpx.stream("GET", url, timeout=STREAM_TIMEOUT, trust_env=False) as answer:
        opened.set()
        return list(read_events(answer))


def hear(url: str, opened: threading.Event) -> bytes:
    """All bytes of one connection."""
    with httpx.stream("GET", url, timeout=STREAM_TIMEOUT, trust_env=False) as answer:
        opened.set()
        assert answer.status_code == 200, answer.read()
        return b"".join(answer.iter_raw())


def read_anew(deployment: Deployment, prediction_id: str, n: int = 0) -> list[Message]:
    """All server-sent events of a prediction, read from the beginning."""
    return follow(f"{deployment.base_url(n)}/predictions/{prediction_id}/stream", threading.Event())


def is_end(message: Message) -> bool:
    """Whether it is the `status` that says how the prediction ended."""
    return message.event == "status" and json.loads(message.data)["status"] in ENDED


def ends(deployment: Deployment, prediction_id: str) -> int:
    """How often a prediction ended, by its events."""
    return sum(map(is_end, read_anew(deployment, prediction_id)))


def attempts(deployment: Deployment, prediction_id: str) -> int:
    """How often a worker took it."""
    with closing(PredictionStore(deployment.redis_url)) as store:
        return store.run(commands.get(prediction_id)).attempt


def teach_scripts(deployment: Deployment) -> None:
    """Have a new Redis learn the scripts: then each command is one request, which holds all of its arguments."""
    await_ends(deployment, [deployment.post(deployment.client(), prompt="first", duration=1)])


def cancel_all(deployment: Deployment, ids: Iterable[str]) -> None:
    """End predictions that the test needs no more."""
    for prediction_id in ids:
        deployment.client().post(f"/predictions/{prediction_id}/cancel")


# Faults.


def reset_often(deployment: Deployment, choice: random.Random) -> None:
    """Reset all connections a few times."""
    for _ in range(choice.randint(1, 4)):
        deployment.redis_proxy.reset()
        time.sleep(choice.uniform(0.05, 0.6))


def hold_some_seconds(deployment: Deployment, choice: random.Random) -> None:
    """Let no bytes through for some seconds."""
    hold(deployment, choice.uniform(1, 4))


def kill_redis(deployment: Deployment, choice: random.Random) -> None:
    """Kill Redis and start it a moment later."""
    restart_redis(deployment, choice.uniform(0, 2))


def hold(deployment: Deployment, seconds: float) -> None:
    deployment.redis_proxy.hold()
    time.sleep(seconds)
    deployment.redis_proxy.release()


def restart_redis(deployment: Deployment, down_seconds: float = 0.0) -> None:
    """Kill Redis, start it, and wait until it answers."""
    deployment.kill("redis")
    time.sleep(down_seconds)
    deployment.start("redis")

    def answers() -> bool:
        with suppress(redis.RedisError):
            return bool(client.ping())
        return False

    with redis.Redis.from_url(deployment.redis_url) as client:
        wait_until(answers, seconds=30)


# Clients of the API.


@dataclass
class Load:
    """Clients that post, read and cancel through all APIs, and what they were told."""

    deployment: Deployment
    accepted: dict[str, set[str]] = field(default_factory=dict)
    """The ids in all the answers that accepted a request, by its prompt."""
    unsure: set[str] = field(default_factory=set)
    """Prompts of requests without a key that were refused by 503: at most one prediction may have come of them."""
    broken: list[str] = field(default_factory=list)
    refused: int = 0

    def run(self, name: str, seed: int, over: threading.Event) -> None:
        """One client, until it is over."""
        choice = random.Random(seed)
        own: list[str] = []
        count = 0
        while not over.wait(choice.uniform(0.02, 0.2)):
            what = choice.random()
            if what < 0.4 or not own:
                prompt = f"{name} request {count}"
                count += 1
                if prediction_id := self._post(choice, prompt, key=prompt if count % 2 else None):
                    own.append(prediction_id)
            elif what < 0.6:
                self._ask(choice, "POST", f"/predictions/{own.pop(choice.randrange(len(own)))}/cancel")
            elif what < 0.7:
                self._ask(choice, "GET", "/predictions")
            else:
                self._ask(choice, "GET", f"/predictions/{choice.choice(own)}")

    def _post(self, choice: random.Random, prompt: str, key: str | None) -> str | None:
        """Post once, or with a key until it is accepted and, at times, once more."""
        body = {"input": {"prompt": prompt, "duration": 1}}
        headers = {"Idempotency-Key": key} if key else {}
        answer = None
        for _ in range(20 if key else 1):
            answer = self._ask(choice, "POST", "/predictions", json=body, headers=headers)
            if answer is None:
                self.unsure.add(prompt)
                continue
            self.accepted.setdefault(prompt, set()).add(answer["id"])
            if choice.random() < 0.7:
                break
        return answer["id"] if answer else None

    def _ask(self, choice: random.Random, method: str, path: str, **arguments: Any) -> dict[str, Any] | None:
        try:
            answer = self.deployment.client(choice.randrange(APIS)).request(method, path, **arguments)
        except httpx.TransportError as error:
            self.broken.append(f"{method} {path}: {error!r}")
            return None
        if answer.is_success:
            body: dict[str, Any] = answer.json()
            return body
        if answer.status_code == 503 and "Retry-After" in answer.headers:
            self.refused += 1
        else:
            self.broken.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return None


def test_requests_while_connections_are_reset(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    count = tries(3, 30)
    load, over, recovery = Load(deployment), threading.Event(), list[float]()
    with ThreadPoolExecutor(THREADS) as pool:
        clients = [pool.submit(load.run, f"reset {n}", choice.getrandbits(32), over) for n in range(THREADS)]
        try:
            for _ in range(count):
                time.sleep(choice.uniform(0.1, 0.7))
                deployment.redis_proxy.reset()
                recovery.append(seconds_until_answered(deployment))
        finally:
            over.set()
        for client in clients:
            client.result()
    ids = set(chain.from_iterable(load.accepted.values()))
    ended = await_ends(deployment, ids)
    listed = ids_by_prompt(deployment)
    lost = [prompt for prompt, told in load.accepted.items() if not told <= set(listed.get(prompt, []))]
    doubled = [prompt for prompt in load.accepted.keys() | load.unsure if len(listed.get(prompt, [])) > 1]
    doubled += [prediction_id for prediction_id in ended if ends(deployment, prediction_id) != 1]
    stuck = [prediction_id for prediction_id in ids if prediction_id not in ended]
    row = report.add(
        "requests while Redis' connections are reset",
        count,
        lost=len(lost),
        doubled=len(doubled),
        stuck=len(stuck),
        recovery=recovery,
    )
    assert load.broken == []
    assert len(ids) >= count
    assert not row.is_broken, (lost, doubled, stuck)
    assert {body["status"] for body in ended.values()} <= {"succeeded", "canceled"}


def seconds_until_answered(deployment: Deployment) -> float:
    """How long it takes until every API has answered a request that needs Redis."""
    begin = time.monotonic()
    for n in range(APIS):
        wait_until(lambda n=n: deployment.client(n).get("/predictions?limit=1").is_success, seconds=30)
    return time.monotonic() - begin


def test_the_first_requests_after_a_restart_of_redis(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    count, recovery, failed = tries(2, 10), list[float](), list[str]()
    prediction_id = deployment.post(deployment.client(), prompt="before the restart", duration=1)
    await_ends(deployment, [prediction_id])
    paths = [f"/predictions/{prediction_id}", "/predictions?limit=5", f"/predictions/{prediction_id}/cancel"]

    def ask(n: int, path: str) -> httpx.Response:
        return deployment.client(n).request("POST" if path.endswith("cancel") else "GET", path)

    def ask_all(pool: ThreadPoolExecutor, wanted: Sequence[tuple[int, str]]) -> list[httpx.Response]:
        return list(pool.map(lambda request: ask(*request), wanted))

    with ThreadPoolExecutor(APIS * FIRST_REQUESTS) as pool:
        for number in range(count):
            requests = [(n, choice.choice(paths)) for n in range(APIS) for _ in range(FIRST_REQUESTS)]
            # As many at once as the pools have connections, which lie idle when Redis goes.
            ask_all(pool, requests)
            restart_redis(deployment)
            begin = time.monotonic()
            health = [ask(n, "/health-check") for n in range(APIS)] if number % 2 else []
            answers = ask_all(pool, requests) if number % 4 < 2 else [ask(*request) for request in requests]
            recovery.append(time.monotonic() - begin)
            health = health or [ask(n, "/health-check") for n in range(APIS)]
            failed += [f"{number}: {a.request.url} {a.status_code} {a.text}" for a in answers if not a.is_success]
            failed += [f"{number}: {a.request.url} {a.text}" for a in health if a.json()["status"] == "unavailable"]
    report.add("the first requests after a restart of Redis", count, stuck=len(failed), recovery=recovery)
    assert failed == []


@pytest.mark.parametrize("what", ["reply", "request"])
def test_a_lost_message_of_a_creation(
    deployment: Deployment, what: str, tries: Tries, choice: random.Random, report: Report
) -> None:
    count, wrong = tries(2, 20), list[str]()
    teach_scripts(deployment)
    proxy = deployment.redis_proxy
    drop = proxy.drop_next_reply if what == "reply" else proxy.drop_next_request
    told: dict[str, str] = {}
    recovery: list[float] = []
    for number in range(count):
        prompt = f"lost {what} {number} of {choice.getrandbits(64):x}"
        happened = drop(prompt.encode())
        begin = time.monotonic()
        headers = {"Idempotency-Key": prompt} if choice.random() < 0.5 else {}
        body = {"input": {"prompt": prompt, "duration": 1}}
        answer = deployment.client(number % APIS).post("/predictions", json=body, headers=headers)
        recovery.append(time.monotonic() - begin)
        assert happened.is_set()
        if answer.status_code == 202:
            told[prompt] = answer.json()["id"]
        else:
            wrong.append(f"{prompt}: {answer.status_code} {answer.text}")
    listed = ids_by_prompt(deployment)
    cancel_all(deployment, told.values())
    lost = [prompt for prompt, prediction_id in told.items() if prediction_id not in listed.get(prompt, [])]
    doubled = [prompt for prompt in told if len(listed.get(prompt, [])) > 1]
    stuck = told.values() - await_ends(deployment, told.values()).keys()
    row = report.add(
        f"a lost {what} of the creation of a prediction",
        count,
        lost=len(lost) + len(wrong),
        doubled=len(doubled),
        stuck=len(stuck),
        recovery=recovery,
    )
    assert not row.is_broken, (wrong, lost, doubled, stuck)


@dataclass
class Followed:
    """A prediction, and what is heard of it through another API by connections that were opened before a fault."""

    prediction_id: str
    seconds: int
    opened: list[threading.Event]
    events: Future[list[Message]]
    sound: Future[bytes] | None


def test_streams_go_on_while_connections_break(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    count = tries(3, 20)
    faults = [reset_often, hold_some_seconds, kill_redis]
    lost, doubled, stuck, recovery = list[str](), list[str](), list[str](), list[float]()
    with ThreadPoolExecutor(8) as pool:
        for number in range(count):
            followed = [begin_to_follow(deployment, pool, choice, live=live) for live in (True, choice.random() < 0.5)]
            for opened in chain.from_iterable(item.opened for item in followed):
                assert opened.wait(20)
            time.sleep(choice.uniform(0, 0.8))
            fault = faults[number % len(faults)]
            fault(deployment, choice)
            begin = time.monotonic()
            for item in followed:
                name = f"{fault.__name__} {number} {item.prediction_id}"
                try:
                    missed, again = compare(deployment, item.prediction_id, item.events.result())
                    lost += [f"{name}: {event}" for event in missed]
                    doubled += [f"{name}: {event}" for event in again]
                    if item.sound is not None:
                        lost += [f"{name}: {wrong}" for wrong in wrongs_of_sound(item, item.sound.result())]
                except (httpx.TransportError, NotDone) as error:
                    stuck.append(f"{name}: {error!r}")
            recovery.append(time.monotonic() - begin)
    row = report.add(
        "streams while Redis' connections break",
        count,
        lost=len(lost),
        doubled=len(doubled),
        stuck=len(stuck),
        recovery=recovery,
    )
    assert not row.is_broken, "\n".join([*lost, *doubled, *stuck])


class NotDone(Exception):
    """A stream ended too early."""


def begin_to_follow(deployment: Deployment, pool: ThreadPoolExecutor, choice: random.Random, *, live: bool) -> Followed:
    seconds = choice.randint(2, 6)
    body = {"input": {"prompt": "followed", "duration": seconds}, "stream": live}
    answer = deployment.client(0).post("/predictions", json=body)
    assert answer.status_code == 202, answer.text
    prediction_id = answer.json()["id"]
    url = f"{deployment.base_url(1)}/predictions/{prediction_id}"
    opened = [threading.Event() for _ in range(1 + live)]
    events = pool.submit(follow, f"{url}/stream", opened[0])
    sound = pool.submit(hear, f"{url}/audio", opened[1]) if live else None
    return Followed(prediction_id, seconds, opened, events, sound)


def compare(deployment: Deployment, prediction_id: str, told: list[Message]) -> tuple[list[str], list[str]]:
    """What a follower missed, and what it got twice or out of order, held against a stream that is read afterwards."""
    if not told or told[-1].event != "done":
        raise NotDone(told[-1:])
    closed = next(place for place, message in enumerate(told) if is_end(message) or message.event == "done")
    assert [message.event for message in told[closed:]] == ["status", "output", "done"]
    whole = read_anew(deployment, prediction_id, 1)
    assert [message.event for message in whole[-3:]] == ["status", "output", "done"]
    there, here = Counter(map(shown, whole[:-3])), Counter(map(shown, told[:closed]))
    places = [position(message.id) for message in told[:closed]]
    disorder = [f"{after} after {before}" for before, after in pairwise(places) if after <= before]
    return list((there - here).elements()), [*(here - there).elements(), *disorder]


def shown(message: Message) -> str:
    """An event without its URL: that of sound is signed anew for each listener."""
    data = message.data
    if message.event == "audio":
        data = json.dumps({name: value for name, value in json.loads(data).items() if name != "url"})
    return f"{message.id} {message.event} {data}"


def wrongs_of_sound(item: Followed, sound: bytes) -> list[str]:
    """What is wrong with the WAV file that grew, which may end early only where the attempt did."""
    if len(sound) < HEADER_BYTES or struct.unpack_from("<4s4x4s", sound) != (b"RIFF", b"WAVE"):
        return [f"no WAV: {sound[:HEADER_BYTES]!r}"]
    played = (len(sound) - HEADER_BYTES) / 2 / RATE
    chunks = [json.loads(message.data) for message in item.events.result() if message.event == "audio"]
    first = min(chunk["attempt"] for chunk in chunks)
    wanted = sum(chunk["duration"] for chunk in chunks if chunk["attempt"] == first)
    if first == max(chunk["attempt"] for chunk in chunks):
        wanted = item.seconds
    return [] if abs(played - wanted) < 0.01 else [f"{played} s of sound, not {wanted}"]


def test_prefer_wait_while_connections_are_reset(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    count, wrong, late = tries(1, 10), list[str](), list[str]()
    recovery: list[float] = []

    def post(n: int, seconds: int) -> tuple[httpx.Response, float]:
        body = {"input": {"prompt": "waited for", "duration": seconds}}
        return deployment.client(n).post("/predictions", json=body, headers={"Prefer": "wait=60"}), time.time()

    with ThreadPoolExecutor(APIS) as pool:
        for _ in range(count):
            posts = [pool.submit(post, n, choice.randint(3, 8)) for n in range(APIS)]
            while not all(item.done() for item in posts):
                time.sleep(choice.uniform(0.05, 0.8))
                deployment.redis_proxy.reset()
            for item in posts:
                answer, answered = item.result()
                if answer.status_code not in (200, 201, 202) or answer.json()["status"] not in (*ENDED, "processing"):
                    wrong.append(f"{answer.status_code} {answer.text}")
                    continue
                body = await_ends(deployment, [answer.json()["id"]])[answer.json()["id"]]
                seconds = answered - datetime.fromisoformat(body["completed_at"]).timestamp()
                recovery.append(max(seconds, 0.0))
                if body["status"] != "succeeded" or seconds > WAIT_SLACK_SECONDS:
                    late.append(f"{body['id']} {body['status']}: answered {seconds} s after its end")
    row = report.add(
        "Prefer: wait while Redis' connections are reset", count, lost=len(wrong), stuck=len(late), recovery=recovery
    )
    assert not row.is_broken, (wrong, late)


def test_workers_go_on_when_their_connections_break(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    count = tries(3, 30)
    posted, recovery = list[str](), list[float]()
    ended: dict[str, dict[str, Any]] = {}
    silent: list[str] = []
    for number in range(count):
        while len(posted) - len(ended) < OUTSTANDING:
            posted.append(post_with_key(deployment, f"under load {len(posted)}", choice.randint(1, 12)))
        time.sleep(choice.uniform(0, 0.3))
        begin = time.monotonic()
        if number % 5 == 1:
            hold(deployment, 8)
        else:
            deployment.redis_proxy.reset()
        while not (more := await_ends(deployment, posted_but(posted, ended), 0.01)):
            if time.monotonic() - begin > END_SECONDS:
                silent.append(f"nothing ended after fault {number}")
                break
        recovery.append(time.monotonic() - begin)
        ended |= more
    ended |= await_ends(deployment, posted_but(posted, ended))
    failed = [f"{name}: {body['status']} {body['error']}" for name, body in ended.items() if not is_success(body)]
    doubled = [name for name in ended if ends(deployment, name) != 1 or len(deployment.objects(name)) != 1]
    stuck = posted_but(posted, ended)
    row = report.add(
        "workers' connections to Redis break",
        count,
        lost=len(failed),
        doubled=len(doubled),
        stuck=len(stuck) + len(silent),
        recovery=recovery,
    )
    assert not row.is_broken, (failed, doubled, stuck, silent)


def post_with_key(deployment: Deployment, prompt: str, seconds: int) -> str:
    """Post until it is accepted, as a client with a key does."""
    for _ in range(20):
        answer = deployment.client().post(
            "/predictions",
            json={"input": {"prompt": prompt, "duration": seconds}},
            headers={"Idempotency-Key": prompt},
        )
        if answer.is_success:
            prediction_id: str = answer.json()["id"]
            return prediction_id
        assert answer.status_code == 503, answer.text
        time.sleep(float(answer.headers["Retry-After"]))
    raise AssertionError(answer.text)


def posted_but(posted: Sequence[str], ended: dict[str, dict[str, Any]]) -> list[str]:
    return [prediction_id for prediction_id in posted if prediction_id not in ended]


def is_success(body: dict[str, Any]) -> bool:
    return bool(body["status"] == "succeeded")


@pytest.mark.parametrize("what", ["reply", "request"])
@pytest.mark.parametrize(
    ("command", "matching"), [("finish", b'"status": "succeeded"'), ("take", b'"held": [')], ids=["finish", "take"]
)
def test_a_lost_message_of_a_worker(
    deployment: Deployment, command: str, matching: bytes, what: str, tries: Tries, report: Report
) -> None:
    count, wrong, doubled, stuck, recovery = tries(1, 20), list[str](), list[str](), list[str](), list[float]()
    proxy = deployment.redis_proxy
    drop = proxy.drop_next_reply if what == "reply" else proxy.drop_next_request
    teach_scripts(deployment)
    for _ in range(count):
        # A worker that waits looks once a second: hardly ever, an empty look is lost and not the one that takes.
        happened = drop(matching)
        begin = time.monotonic()
        prediction_id = deployment.post(deployment.client(), prompt=f"lost {what} of {command}", duration=1)
        body = await_ends(deployment, [prediction_id]).get(prediction_id)
        recovery.append(time.monotonic() - begin)
        assert happened.wait(10)
        if body is None:
            stuck.append(prediction_id)
            continue
        if not is_success(body) or not deployment.objects(prediction_id):
            wrong.append(f"{prediction_id}: {body['status']} {body['error']}")
        tried, objects = attempts(deployment, prediction_id), deployment.objects(prediction_id)
        if tried != 1 or len(objects) > 1 or ends(deployment, prediction_id) != 1:
            doubled.append(f"{prediction_id}: {tried} attempts, {objects}")
    row = report.add(
        f"a lost {what} of a worker's {command}",
        count,
        lost=len(wrong),
        doubled=len(doubled),
        stuck=len(stuck),
        recovery=recovery,
    )
    assert not row.is_broken, (wrong, doubled, stuck)
