"""A long drill: the whole service under mixed load, with a fault every few seconds.

`python -m tests.faults.drill --seconds 3600 --seed 1 --every 20` ends with status 1 if a promise was broken. The seed
chooses the requests of each thread and the faults; what meets what also depends on the machine.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import math
import random
import struct
import sys
import tempfile
import threading
import time
import wave
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.faults.deployment import ENDED, Deployment
from tests.faults.report import Report, machine

POSTING_THREADS = 4
MAX_WAITING = 20
FOLLOWERS = 24
"""Threads that read streams and cancel predictions."""
CLIENT_TIMEOUT = 12.0
"""Longer than the longest fault but SIGSTOP's: a client that gives up asks the other API."""
STREAM_TIMEOUT = 25.0
"""Comments come every 15 seconds."""
RETRY_SECONDS = 0.5
POST_END_SECONDS = 60.0
END_SECONDS = 180.0
WEBHOOK_SECONDS = 90.0
STREAM_END_SECONDS = 60.0
STOPPED_SECONDS = 8.0
HELD_SECONDS = 5.0
STORAGE_GRACE_SECONDS = 30.0
"""A prediction that failed this long after the storage was away may have failed for that reason."""
AGAIN = 10
"""Of the predictions that have ended, so many are read again in each round of polls."""
EXAMPLES = 12


@dataclass
class Accepted:
    """A prediction that the service has accepted, and what became of it."""

    prediction_id: str
    kind: str
    has_webhook: bool
    is_streamed: bool
    status: str = "starting"
    ended: str | None = None
    """The first status seen that says it has ended."""
    ended_at: float = 0.0
    """When that was seen, by `time.monotonic`."""
    error: str | None = None
    completed_at: str | None = None
    stream_done: bool = False
    stream_state: str = "not opened"
    """What was last read from its stream."""


@dataclass
class Webhooks:
    """The `completed` webhooks that arrived: for each prediction, its webhook ids and how often each came."""

    url: str = ""
    completed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    statuses: dict[str, str] = field(default_factory=dict)
    other: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, webhook_id: str, body: dict[str, Any]) -> None:
        """Count one delivery."""
        with self.lock:
            if webhook_id.endswith("-completed") or body["status"] in ENDED:
                self.completed[body["id"]][webhook_id] += 1
                self.statuses[body["id"]] = body["status"]
            else:
                self.other += 1


@contextmanager
def webhook_server() -> Iterator[Webhooks]:
    """Run a receiver that answers 204 and counts."""
    webhooks = Webhooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with contextlib.suppress(ConnectionError):
                body = self.rfile.read(int(self.headers["content-length"]))
                webhooks.take(self.headers["webhook-id"], json.loads(body))
                self.send_response(204)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        webhooks.url = f"http://127.0.0.1:{server.server_port}/hook"
        try:
            yield webhooks
        finally:
            server.shutdown()
            thread.join()


class Ledger:
    """All that was accepted, and every broken promise that was seen on the way. Used by all threads."""

    def __init__(self) -> None:
        self.accepted: dict[str, Accepted] = {}
        self.broken: dict[str, list[str]] = defaultdict(list)
        """What is wrong, by kind of promise."""
        self.retried: Counter[str] = Counter()
        """Answers and errors after which a request was sent again, none of which breaks a promise."""
        self.successes: list[float] = []
        """When each success was first seen, by `time.monotonic`."""
        self._lock = threading.Lock()

    def accept(self, accepted: Accepted) -> None:
        """Remember a prediction from its first answer on."""
        with self._lock:
            if accepted.prediction_id in self.accepted:
                self.broken["doubled: two keys, one prediction"].append(accepted.prediction_id)
            self.accepted[accepted.prediction_id] = accepted

    def observe(self, body: dict[str, Any], asked_at: float) -> None:
        """Take in the state that an answer shows; another state after the end is a broken promise.

        An answer to what was asked before the end was known (`asked_at`, by `time.monotonic`) may be older than it.
        """
        with self._lock:
            accepted = self.accepted[body["id"]]
            if accepted.ended is None:
                accepted.status = body["status"]
                if body["status"] in ENDED:
                    accepted.ended, accepted.ended_at = body["status"], time.monotonic()
                    accepted.error, accepted.completed_at = body["error"], body["completed_at"]
                    if body["status"] == "succeeded":
                        self.successes.append(time.monotonic())
            elif body["status"] != accepted.ended and asked_at > accepted.ended_at:
                self.broken["doubled: changed after its end"].append(
                    f"{accepted.prediction_id}: {accepted.ended}, then {body['status']}"
                )

    def report(self, promise: str, detail: str) -> None:
        """Remember a broken promise."""
        with self._lock:
            self.broken[promise].append(detail)

    def retry(self, reason: str) -> None:
        """Count a request that has to be sent again."""
        with self._lock:
            self.retried[reason] += 1

    def all(self) -> list[Accepted]:
        """All predictions, as a list of its own."""
        with self._lock:
            return list(self.accepted.values())

    def waiting(self) -> list[Accepted]:
        """Those that have not ended as far as known."""
        return [accepted for accepted in self.all() if accepted.ended is None]


class Drill:
    """The load on a deployment, and its judgement."""

    def __init__(self, deployment: Deployment, webhooks: Webhooks, seed: int) -> None:
        self.deployment = deployment
        self.webhooks = webhooks
        self.seed = seed
        self.ledger = Ledger()
        self.posting = threading.Event()
        self.posting.set()
        self.closing = threading.Event()
        self.apis = sum(name.startswith("api-") for name in deployment.names)
        self.storage_faults: list[tuple[float, float]] = []
        """When the storage was away, by `time.time`."""
        self.recovery: list[float] = []
        self._followers: ThreadPoolExecutor
        self._posters: list[threading.Thread] = []

    @contextmanager
    def load(self) -> Iterator[None]:
        """Post and poll; at the end every thread has stopped."""
        self._posters = [threading.Thread(target=self._post_all, args=(n,)) for n in range(POSTING_THREADS)]
        threads = [*self._posters, threading.Thread(target=self._poll_all)]
        with ThreadPoolExecutor(FOLLOWERS) as self._followers:
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self.posting.clear()
                self.closing.set()
                for thread in threads:
                    thread.join()
                self._followers.shutdown(cancel_futures=True)

    # The load.

    def _post_all(self, number: int) -> None:
        choice = random.Random(f"{self.seed}-{number}")
        while self.posting.is_set():
            if len(self.ledger.waiting()) >= MAX_WAITING:
                time.sleep(0.1)
                continue
            try:
                self._post_one(choice)
            except Exception as error:
                self.ledger.report("the harness failed", f"{type(error).__name__}: {error}")

    def _post_one(self, choice: random.Random) -> None:
        body = random_body(choice, self.webhooks.url)
        headers = {"Idempotency-Key": f"{choice.getrandbits(128):032x}"}
        kind = choice.choices(["plain", "canceled", "streamed", "waited"], [4, 2, 2, 2])[0]
        if kind == "waited":
            headers["Prefer"] = "wait=5"
        pause = choice.uniform(0, 4)
        answer = self._until_answered("POST", "/predictions", json=body, headers=headers)
        if answer is None:
            return
        created, asked_at = answer
        self.ledger.accept(Accepted(created["id"], kind, "webhook" in body, kind == "streamed"))
        self.ledger.observe(created, asked_at)
        if kind == "streamed":
            self._followers.submit(self._guarded, self._follow, created["id"])
        if kind == "canceled":
            self._followers.submit(self._guarded, self._cancel, created["id"], pause)

    def _guarded(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            self.ledger.report("the harness failed", f"{function.__name__}: {type(error).__name__}: {error}")

    def _cancel(self, prediction_id: str, pause: float) -> None:
        self.closing.wait(pause)
        answer = self._until_answered("POST", f"/predictions/{prediction_id}/cancel")
        if answer is not None:
            self.ledger.observe(*answer)

    def _follow(self, prediction_id: str) -> None:
        """Read the events until `done`, from where a broken connection left off."""
        last = ""
        while not self.closing.is_set():
            done, last = self._read_stream(prediction_id, last, self.closing.is_set)
            if done:
                self.ledger.accepted[prediction_id].stream_done = True
                return
            self.closing.wait(RETRY_SECONDS)

    def _read_stream(self, prediction_id: str, last: str, is_over: Callable[[], bool]) -> tuple[bool, str]:
        """Read one connection's events; returns whether `done` came, and the last event's id."""
        accepted = self.ledger.accepted[prediction_id]
        api = self._some_api()
        url = f"{self.deployment.base_url(api)}/predictions/{prediction_id}/stream"
        headers = {"Last-Event-ID": last} if last else {}
        try:
            with httpx.stream("GET", url, headers=headers, timeout=STREAM_TIMEOUT, trust_env=False) as answer:
                if answer.status_code != 200:
                    text = answer.read().decode()
                    self._judge(answer.status_code, f"GET /predictions/{prediction_id}/stream", text)
                    return False, last
                for line in answer.iter_lines():
                    name, _, value = line.partition(":")
                    if name == "id":
                        last = value.strip()
                    if line:
                        accepted.stream_state = f"{line[:60]!r} from api-{api} at {datetime.now():%H:%M:%S}, id {last}"
                    if name == "event" and value.strip() == "done":
                        return True, last
                    if is_over():
                        return False, last
            self.ledger.retry("stream ended before done")
        except httpx.TransportError as error:
            self.ledger.retry(f"stream {type(error).__name__}")
        return False, last

    def _poll_all(self) -> None:
        choice = random.Random(f"{self.seed}-polls")
        while not self.closing.is_set():
            ended = [accepted for accepted in self.ledger.all() if accepted.ended is not None]
            again = choice.sample(ended, min(AGAIN, len(ended)))
            for accepted in [*self.ledger.waiting(), *again]:
                with contextlib.suppress(Exception):
                    self.poll(accepted)
            self.closing.wait(1.0)

    def poll(self, accepted: Accepted) -> bool:
        """Read a prediction once, from either API; returns whether there was an answer."""
        answer = self._ask("GET", f"/predictions/{accepted.prediction_id}")
        if answer is None:
            return False
        asked_at, response = answer
        if response.is_success:
            self.ledger.observe(response.json(), asked_at)
        return True

    def _until_answered(self, method: str, path: str, **arguments: Any) -> tuple[dict[str, Any], float] | None:
        """Send a request until it is answered; returns the body and when it was last asked for.

        None where the answer says that the request is wrong, or where the drill ends.
        """
        while not self.closing.is_set():
            answer = self._ask(method, path, **arguments)
            if answer is not None:
                asked_at, response = answer
                return (response.json(), asked_at) if response.is_success else None
            self.closing.wait(RETRY_SECONDS)
        return None

    def _ask(self, method: str, path: str, **arguments: Any) -> tuple[float, httpx.Response] | None:
        """Ask either API, and say when; None where it is to be asked again."""
        client = self.deployment.client(self._some_api())
        asked_at = time.monotonic()
        try:
            answer = client.request(method, path, timeout=CLIENT_TIMEOUT, **arguments)
        except httpx.TransportError as error:
            self.ledger.retry(f"{method} {type(error).__name__}")
            return None
        if not answer.is_success:
            self._judge(answer.status_code, f"{method} {path}", answer.text)
        return None if answer.status_code >= 500 else (asked_at, answer)

    def _judge(self, status: int, what: str, text: str) -> None:
        """503 says that one should try again; anything else is no answer to what the drill asks for."""
        if status == 503:
            self.ledger.retry(f"{what.split()[0]} 503")
        elif status == 404:
            self.ledger.report("lost: answered 404", what)
        else:
            self.ledger.report(f"answered {status}", f"{what}: {text[:300]}")

    def _some_api(self) -> int:
        return random.randrange(self.apis)

    # The judgement.

    def settle(self) -> None:
        """Wait until all has ended and every webhook and stream is through, each for its limit at most."""
        self.posting.clear()
        _wait(lambda: not any(thread.is_alive() for thread in self._posters), POST_END_SECONDS, "answers to POSTs")
        _wait(lambda: not self.ledger.waiting(), END_SECONDS, "predictions")
        _wait(lambda: not self.missing_webhooks(), WEBHOOK_SECONDS, "webhooks")
        _wait(lambda: not self.open_streams(), STREAM_END_SECONDS, "streams")

    def missing_webhooks(self) -> list[Accepted]:
        """Those that have ended, and whose `completed` webhook has not come."""
        with self.webhooks.lock:
            came = set(self.webhooks.completed)
        return [
            item for item in self.ledger.all() if item.has_webhook and item.ended and item.prediction_id not in came
        ]

    def open_streams(self) -> list[Accepted]:
        """Those whose stream has not reached `done`."""
        return [item for item in self.ledger.all() if item.is_streamed and not item.stream_done]

    def judge(self) -> None:
        """Read everything once more, and write down every broken promise."""
        for accepted in self.ledger.all():
            self._read_last(accepted)
            if accepted.ended is None:
                self.ledger.report("stuck", f"{accepted.prediction_id}: {accepted.status}")
            if accepted.ended == "failed" and not self.is_storage_fault(accepted):
                self.ledger.report("failed", f"{accepted.prediction_id} at {accepted.completed_at}: {accepted.error}")
        for accepted in self.missing_webhooks():
            self.ledger.report("webhook missing", f"{accepted.prediction_id}: {accepted.ended}")
        for accepted in self.open_streams():
            state = accepted.stream_state
            anew = self._reaches_done(accepted)
            self.ledger.report(
                "stream never reached done",
                f"{accepted.prediction_id}: {accepted.status}; last line {state}; from the beginning, done: {anew}",
            )
        with self.webhooks.lock:
            for prediction_id, ids in self.webhooks.completed.items():
                if len(ids) > 1:
                    self.ledger.report("doubled: webhooks", f"{prediction_id}: {dict(ids)}")
                if prediction_id not in self.ledger.accepted:
                    self.ledger.report("doubled: webhook of an unknown prediction", prediction_id)
                elif self.webhooks.statuses[prediction_id] != self.ledger.accepted[prediction_id].ended:
                    self.ledger.report("doubled: webhook says another end", prediction_id)

    def _reaches_done(self, accepted: Accepted) -> bool:
        """Whether a new connection reads the stream from the beginning to `done` within the time of a comment."""
        deadline = time.monotonic() + STREAM_TIMEOUT
        done, _ = self._read_stream(accepted.prediction_id, "", lambda: time.monotonic() > deadline)
        return done

    def _read_last(self, accepted: Accepted) -> None:
        for _ in range(20):
            if self.poll(accepted):
                return
            time.sleep(RETRY_SECONDS)
        self.ledger.report("no answer after the faults", accepted.prediction_id)

    def is_storage_fault(self, accepted: Accepted) -> bool:
        """Whether it failed because the drill had taken its storage away."""
        if "storage" not in (accepted.error or "").lower() or not accepted.completed_at:
            return False
        at = datetime.fromisoformat(accepted.completed_at).timestamp()
        return any(begin <= at <= end + STORAGE_GRACE_SECONDS for begin, end in self.storage_faults)

    def summary(self) -> str:
        """One line on the load so far."""
        items = self.ledger.all()
        ended = Counter(item.ended or "waiting" for item in items)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(ended.items()))
        broken = {promise: len(details) for promise, details in self.ledger.broken.items()}
        with self.webhooks.lock:
            webhooks = len(self.webhooks.completed)
        streams = sum(item.stream_done for item in items)
        return (
            f"{len(items)} accepted: {counts}; {webhooks} completed webhooks, {streams} streams done; broken {broken}"
        )


def random_body(choice: random.Random, webhook: str) -> dict[str, Any]:
    """A body of POST /predictions with valid fields."""
    value: dict[str, Any] = {
        "prompt": choice.choice(["happy piano", "sad slow strings", "drums", "", "ethereal choir, taiko drums"]),
        "duration": choice.randint(1, 4),
        "seed": choice.getrandbits(31),
        "top_k": choice.choice([0, 50, 250]),
        "top_p": choice.choice([0.0, 0.0, 0.9]),
        "temperature": choice.choice([0.7, 1.0, 1.3]),
        "output_format": choice.choice(["wav", "mp3"]),
        "normalization_strategy": choice.choice(["loudness", "peak", "clip", "rms"]),
    }
    if choice.random() < 0.15:
        value |= {"input_audio": _audio(choice.uniform(0.3, 1.0)), "continuation": True}
    body: dict[str, Any] = {"input": value}
    if choice.random() < 0.25:
        body["stream"] = True
    if choice.random() < 0.5:
        body["webhook"] = webhook
        if choice.random() < 0.7:
            body["webhook_events_filter"] = ["completed"]
    return body


def _audio(seconds: float) -> str:
    """A tone as a data URI."""
    rate = 32000
    samples = (int(8000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(int(seconds * rate)))
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return "data:audio/wav;base64," + base64.b64encode(output.getvalue()).decode()


class Faults:
    """The faults, one at a time. Each call returns when its fault is over."""

    def __init__(self, drill: Drill, choice: random.Random, over: threading.Event) -> None:
        self.drill = drill
        self.deployment = drill.deployment
        self.choice = choice
        self.over = over
        self.count = 0

    def one(self) -> None:
        """Choose a fault and make it."""
        faults = [self.kill, self.kill_and_hold_down, self.stop, self.terminate]
        faults += [self.redis_reset, self.redis_hold, self.redis_delay, self.redis_disk_full]
        faults += [self.s3_refuse, self.s3_reset]
        weights = [3, 2, 3, 1, 1, 1, 1, 1, 1, 1]
        fault = self.choice.choices(faults, weights)[0]
        self.count += 1
        fault()

    def _member(self) -> str:
        """A process: each kind is as likely, however many there are of it."""
        kind = self.choice.choice(["worker", "webhooks", "api", "redis"])
        return self.choice.choice([name for name in self.deployment.names if name.startswith(kind)])

    def _say(self, text: str) -> None:
        say(f"fault {self.count}: {text}")

    def kill(self) -> None:
        """Kill a process; the supervisor starts it again."""
        name = self._member()
        self._say(f"kill {name}")
        self.deployment.kill(name, hold_down=False)

    def kill_and_hold_down(self) -> None:
        """Kill a process and start it again after some seconds."""
        name, seconds = self._member(), self.choice.uniform(2, 8)
        self._say(f"kill {name}, down for {seconds:.1f} s")
        self.deployment.kill(name)
        self.over.wait(seconds)
        self.deployment.start(name)

    def terminate(self) -> None:
        """Stop a process in order and start it again."""
        name = self._member()
        self._say(f"restart {name} in order")
        self.deployment.restart(name)

    def stop(self) -> None:
        """Stop a process for longer than its lease."""
        name = self._member()
        self._say(f"stop {name} for {STOPPED_SECONDS:.0f} s")
        self.deployment.stop(name)
        self.over.wait(STOPPED_SECONDS)
        self.deployment.cont(name)

    def redis_reset(self) -> None:
        """Break all connections to Redis."""
        self._say("reset the connections to Redis")
        self.deployment.redis_proxy.reset()

    def redis_hold(self) -> None:
        """Let nothing through to Redis or from it."""
        self._say(f"hold Redis for {HELD_SECONDS:.0f} s")
        self.deployment.redis_proxy.hold()
        self.over.wait(HELD_SECONDS)
        self.deployment.redis_proxy.release()

    def redis_delay(self) -> None:
        """Make Redis slow."""
        seconds = self.choice.uniform(0.05, 0.4)
        self._say(f"delay Redis by {seconds:.2f} s for {HELD_SECONDS:.0f} s")
        self.deployment.redis_proxy.delay(seconds)
        self.over.wait(HELD_SECONDS)
        self.deployment.redis_proxy.delay(0)

    def redis_disk_full(self) -> None:
        """Let Redis write next to nothing; it ends, and is started again and again."""
        self._say(f"Redis' disk full for {HELD_SECONDS:.0f} s")
        with self.deployment.redis_disk_full():
            self.over.wait(HELD_SECONDS)

    def s3_refuse(self) -> None:
        """Take the storage away."""
        assert self.deployment.s3_proxy is not None
        seconds = self.choice.uniform(1, 6)
        self._say(f"refuse S3 for {seconds:.1f} s")
        begin = time.time()
        self.deployment.s3_proxy.refuse()
        self.over.wait(seconds)
        self.deployment.s3_proxy.refuse(False)
        self.drill.storage_faults.append((begin, time.time()))

    def s3_reset(self) -> None:
        """Break the connections to the storage again and again."""
        assert self.deployment.s3_proxy is not None
        self._say("reset S3 five times")
        begin = time.time()
        for _ in range(5):
            self.deployment.s3_proxy.reset()
            self.over.wait(0.5)
        self.drill.storage_faults.append((begin, time.time()))


def say(text: str) -> None:
    """Print with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    begin = time.monotonic()
    while not condition() and time.monotonic() < begin + seconds:
        time.sleep(0.2)
    say(f"waited {time.monotonic() - begin:.1f} s for {what}: {'done' if condition() else 'NOT done'}")


def _run_faults(drill: Drill, seconds: float, every: float, seed: int) -> int:
    """Make faults until the time is over; returns how many. Prints the state every minute."""
    over = threading.Event()

    def report() -> None:
        while not over.wait(60):
            say(drill.summary())

    reporter = threading.Thread(target=report, name="reporter")
    reporter.start()
    faults = Faults(drill, random.Random(seed), over)
    deadline = time.monotonic() + seconds
    ends: list[float] = []
    try:
        due = time.monotonic() + every
        while due < deadline:
            time.sleep(max(0.0, due - time.monotonic()))
            faults.one()
            ends.append(time.monotonic())
            due = max(due + every, time.monotonic())
        time.sleep(max(0.0, deadline - time.monotonic()))
    finally:
        over.set()
        reporter.join()
    successes = drill.ledger.successes
    # Without a success after it, a fault has no time of recovery: what it left stuck is counted elsewhere.
    after = [[at - end for at in successes if at >= end] for end in ends]
    drill.recovery = [min(times) for times in after if times]
    return faults.count


def _print_end(drill: Drill, tries: int, seconds: float) -> None:
    ledger = drill.ledger
    say(drill.summary())
    say(f"sent again after: {dict(ledger.retried)}")
    say(f"started again by the supervisor: {dict(drill.deployment.restarts)}")
    with drill.webhooks.lock:
        repeated = sum(sum(ids.values()) - len(ids) for ids in drill.webhooks.completed.values())
    say(f"completed webhooks that came more than once under the same id, which is allowed: {repeated}")
    excused = [item for item in ledger.all() if item.ended == "failed" and drill.is_storage_fault(item)]
    say(f"failed because the storage was away, which is allowed: {len(excused)}")
    print(f"\n{machine()}; {seconds:.0f} s, {tries} faults, seed {drill.seed}\n", flush=True)
    kinds = Counter(item.kind for item in ledger.all())
    print("| load | predictions |\n|---|--:|", flush=True)
    for kind, count in sorted(kinds.items()):
        print(f"| {kind} | {count} |", flush=True)
    print("\n| broken promise | times |\n|---|--:|", flush=True)
    for promise, details in sorted(ledger.broken.items()):
        print(f"| {promise} | {len(details)} |", flush=True)
    for promise, details in sorted(ledger.broken.items()):
        print(f"\n{promise}:", flush=True)
        for detail in details if promise == "failed" else details[:EXAMPLES]:
            print(f"  {detail}", flush=True)
    print("\nNo promise was broken." if not ledger.broken else "\nPROMISES WERE BROKEN.", flush=True)


def run(seconds: float, seed: int, every: float, folder: Path) -> int:
    """Run the drill with its data in the folder; returns the exit status."""
    with ExitStack() as stack:
        webhooks = stack.enter_context(webhook_server())
        say(f"starting; logs in {folder / 'logs'}")
        deployment = stack.enter_context(Deployment(folder, apis=2, workers=2, s3=True, supervised=True))
        drill = Drill(deployment, webhooks, seed)
        say("ready")
        with drill.load():
            tries = _run_faults(drill, seconds, every, seed)
            say("the faults are over")
            drill.settle()
        drill.judge()
        _print_end(drill, tries, seconds)

    def count(word: str) -> int:
        return sum(len(details) for promise, details in drill.ledger.broken.items() if promise.startswith(word))

    lost = count("lost") + count("webhook missing") + count("failed")
    stuck = count("stuck") + count("stream never")
    Report().add("drill", tries, lost=lost, doubled=count("doubled"), stuck=stuck, recovery=drill.recovery)
    return int(bool(drill.ledger.broken))


def main() -> int:
    """Parse the arguments and run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=20, help="seconds between the begins of two faults")
    parser.add_argument("--folder", type=Path, help="keep data and logs here instead of in a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drill-") as temporary:
        folder = args.folder or Path(temporary)
        return run(args.seconds, args.seed, args.every, folder.resolve())


if __name__ == "__main__":
    sys.exit(main())
