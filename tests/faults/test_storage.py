"""The object storage fails while predictions are finished, or the worker's disk is full."""

from __future__ import annotations

import io
import random
import resource
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx
import pytest

from predictions.files.record import file_key
from predictions.record import commands
from predictions.record.prediction import new_id, output_key
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage.s3 import S3Storage
from tests.faults.deployment import BUCKET, SECRET, Deployment
from tests.faults.proxy import TcpProxy
from tests.faults.report import Report
from tests.s3_server import ACCESS_KEY, REGION, SECRET_KEY
from tests.servers import wait_until
from worker.leftovers import delete_leftovers

AT_ONCE = 2
END_SECONDS = 120.0
FAULT_SECONDS = 60.0
"""Within this time the fault must have met a PUT."""
PUT_OUTPUT = b"PUT /musicgen/predictions/"
FILE_LIMIT = 1_000_000
STORAGE_SECONDS = 2.5
"""The storage's clock counts in seconds, and rounds up."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("storage"), s3=True) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def store(service: Deployment) -> Iterator[PredictionStore]:
    store = PredictionStore(service.redis_url)
    yield store
    store.close()


@pytest.fixture(scope="module")
def proxy(service: Deployment) -> TcpProxy:
    assert service.s3_proxy is not None
    return service.s3_proxy


@dataclass
class Counted:
    """What the tries of one fault came to."""

    tries: int = 0
    lost: list[dict[str, Any]] = field(default_factory=list)
    doubled: dict[str, list[str]] = field(default_factory=dict)
    recovery: list[float] = field(default_factory=list)

    def add(self, service: Deployment, ids: list[str], back_at: float) -> None:
        """Wait for these predictions, for which the storage is back since then, and look at their outputs."""
        bodies = service.wait_all(ids, END_SECONDS)
        self.tries += 1
        self.recovery.append(time.monotonic() - back_at)
        for prediction_id, body in bodies.items():
            objects = service.objects(prediction_id)
            if body["status"] != "succeeded" or not objects or not is_whole(body):
                self.lost.append(body)
            if len(objects) > 1:
                self.doubled[prediction_id] = objects

    def report(self, report: Report, name: str) -> None:
        report.add(name, self.tries, lost=len(self.lost), doubled=len(self.doubled), recovery=self.recovery)
        assert not self.lost
        assert not self.doubled


def is_whole(body: dict[str, Any]) -> bool:
    """Whether the output is there at its presigned URL, as long as it should be."""
    answer = httpx.get(body["output"], trust_env=False)
    if answer.status_code != 200:
        return False
    with wave.open(io.BytesIO(answer.content)) as sound:
        return sound.getnframes() == body["input"]["duration"] * sound.getframerate()


def ask(service: Deployment, choice: random.Random, count: int = AT_ONCE) -> list[str]:
    return [service.post(service.client(), prompt="to be stored", duration=choice.randint(1, 3)) for _ in range(count)]


def wait_for(events: list[threading.Event]) -> None:
    assert all(event.wait(FAULT_SECONDS) for event in events)


def test_storage_refuses(
    service: Deployment, proxy: TcpProxy, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    """No connection gets through until at least one prediction has found that out."""
    counted = Counted()
    for _ in range(tries(1, 15)):
        proxy.refuse()
        try:
            ids = ask(service, choice)
            wait_until(
                lambda ids=ids: any(f"Storing predictions/{item}" in service.log("worker-0") for item in ids),
                seconds=FAULT_SECONDS,
            )
            time.sleep(choice.uniform(0.0, 1.5))
        finally:
            proxy.refuse(False)
        counted.add(service, ids, time.monotonic())
    counted.report(report, "S3 refuses connections")


@pytest.mark.parametrize("what", ["request", "reply"])
def test_storage_resets(
    what: str,
    service: Deployment,
    proxy: TcpProxy,
    tries: Callable[[int, int], int],
    choice: random.Random,
    report: Report,
) -> None:
    """The connection breaks before or after a PUT was carried out, once or more often than boto3 tries by itself."""
    counted = Counted()
    drop = proxy.drop_next_request if what == "request" else proxy.drop_next_reply
    for _ in range(tries(1, 15)):
        happened = [drop(PUT_OUTPUT) for _ in range(choice.randint(1, 4))]
        ids = ask(service, choice)
        wait_for(happened)
        counted.add(service, ids, time.monotonic())
    counted.report(report, f"S3's connection breaks, the {what} of the next PUT is lost")


def test_storage_stalls_and_resets(
    service: Deployment, proxy: TcpProxy, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    """A PUT is under way when every connection breaks."""
    counted = Counted()
    for _ in range(tries(1, 15)):
        proxy.hold()
        try:
            ids = ask(service, choice)
            wait_until(lambda: proxy.connections() > 0, seconds=FAULT_SECONDS)
            time.sleep(choice.uniform(0.2, 1.2))
            proxy.reset()
        finally:
            proxy.release()
        counted.add(service, ids, time.monotonic())
    counted.report(report, "S3 stalls and resets every connection")


def test_storage_is_slow(
    service: Deployment, proxy: TcpProxy, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    counted = Counted()
    for _ in range(tries(1, 15)):
        proxy.delay(choice.uniform(0.05, 0.5))
        try:
            counted.add(service, ask(service, choice), time.monotonic())
        finally:
            proxy.delay(0.0)
    counted.report(report, "S3 is slow")


@pytest.mark.full  # the retries last over 40 seconds
def test_storage_stays_away(
    service: Deployment, proxy: TcpProxy, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    """After the last retry the prediction fails and says why; the next one succeeds."""
    count = tries(1, 1)
    proxy.refuse()
    try:
        ids = ask(service, choice)
        bodies = service.wait_all(ids, END_SECONDS)
    finally:
        proxy.refuse(False)
    after = Counted()
    after.add(service, ask(service, choice), time.monotonic())
    silent = [body for body in bodies.values() if body["status"] != "failed" or "storage" not in body["error"]]
    lost = len(silent) + len(after.lost)
    report.add("S3 stays away", count, lost=lost, recovery=after.recovery)
    assert not silent
    assert not after.lost
    assert not any(service.objects(prediction_id) for prediction_id in ids)


def all_keys(service: Deployment, proxy: TcpProxy) -> set[str]:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{proxy.port}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = {item["Key"] for page in pages for item in page.get("Contents", [])}
    client.close()
    return keys


@contextmanager
def s3_storage(service: Deployment, proxy: TcpProxy) -> Iterator[S3Storage]:
    settings = Settings(
        redis_url=service.redis_url,
        secret=SECRET,
        storage="s3",
        s3_endpoint=f"http://127.0.0.1:{proxy.port}",
        s3_bucket=BUCKET,
        s3_region=REGION,
        s3_access_key=ACCESS_KEY,
        s3_secret_key=SECRET_KEY,
    )
    yield S3Storage(settings)


def test_leftovers_are_deleted(
    service: Deployment,
    store: PredictionStore,
    proxy: TcpProxy,
    tries: Callable[[int, int], int],
    choice: random.Random,
    report: Report,
) -> None:
    """What belongs to nobody goes; outputs, uploaded files and what a running prediction has stored stay."""
    rounds = tries(1, 2)
    wrong: set[str] = set()
    for _ in range(rounds):
        ended = service.wait_all(ask(service, choice), END_SECONDS)
        upload = service.client().post("/files", files={"content": ("sound.wav", sound(1.0), "audio/wav")})
        assert upload.status_code == 201, upload.text
        with s3_storage(service, proxy) as storage:
            unwanted = {
                output_key(new_id(), new_id(), "wav"),
                f"{output_key(new_id(), new_id(), 'wav').rpartition('/')[0]}/live/0000.wav",
                file_key(new_id()),
                *(output_key(prediction_id, new_id(), "wav") for prediction_id in ended),
            }
            for key in unwanted:
                storage.put(key, b"left over", "audio/wav")
            running = service.post(service.client(), prompt="runs meanwhile", duration=15)
            wait_until(lambda item=running: store.run(commands.get(item)).lease_token, seconds=END_SECONDS)
            kept = {
                output_key(running, store.run(commands.get(running)).lease_token, "wav"),
                output_key(running, "of-an-earlier-attempt", "wav"),
                *(key for prediction_id in ended for key in service.objects(prediction_id) if key not in unwanted),
                file_key(upload.json()["id"]),
            }
            # Held: it must not end before the leftovers are deleted.
            service.stop("worker-0")
            try:
                for key in kept:
                    if f"/{running}/" in key:
                        storage.put(key, b"under way", "audio/wav")
                time.sleep(STORAGE_SECONDS)
                assert (unwanted | kept) <= all_keys(service, proxy)
                deleted = delete_leftovers(store, storage, 0)
                left = all_keys(service, proxy)
            finally:
                service.cont("worker-0")
        wrong |= (unwanted & left) | (kept - left)
        assert deleted >= len(unwanted)
        assert all(is_whole(body) for body in ended.values())
        # Once it has ended, what its earlier attempts have left is of no use any more.
        done = service.wait_all([running], END_SECONDS)
        assert done[running]["status"] == "succeeded"
        with s3_storage(service, proxy) as storage:
            delete_leftovers(store, storage, 0)
        assert len(service.objects(running)) == 1
        assert is_whole(done[running])
    report.add("objects that belong to nobody are deleted", rounds, lost=len(wrong))
    assert not wrong


def sound(seconds: float, rate: int = 32_000) -> bytes:
    """A WAV file of noise."""
    file = io.BytesIO()
    with wave.open(file, "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(rate)
        target.writeframes(random.Random(1).randbytes(2 * int(seconds * rate)))
    return file.getvalue()


def limit_files(service: Deployment, size: int) -> None:
    """Let the worker's processes write no larger file than this: what a full disk does, as far as they can tell."""
    process = service.members["worker-0"].process
    assert process is not None
    assert service.members["worker-0"].log.stat().st_size < FILE_LIMIT / 2
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_the_temporary_disk_is_full(
    service: Deployment, tries: Callable[[int, int], int], choice: random.Random, report: Report
) -> None:
    """A prediction whose input audio finds no room fails and says so; others succeed meanwhile, and afterwards all."""
    rounds = tries(1, 4)
    counted = Counted()
    silent = []
    client = service.client()
    large, small = (
        client.post("/files", files={"content": ("sound.wav", sound(seconds), "audio/wav")}).json()["urls"]["get"]
        for seconds in (FILE_LIMIT / 64_000 + 4, 1)
    )
    value = {"prompt": "with audio", "duration": 2}
    for _ in range(rounds):
        limit_files(service, FILE_LIMIT)
        try:
            failing = [service.post(client, **value, input_audio=large) for _ in range(choice.randint(1, 2))]
            beside = [service.post(client, **value, input_audio=small), *ask(service, choice)]
            bodies = service.wait_all(failing, END_SECONDS)
            counted.add(service, beside, time.monotonic())
        finally:
            limit_files(service, resource.RLIM_INFINITY)
        silent += [body for body in bodies.values() if body["status"] != "failed" or "file" not in body["error"]]
        counted.add(service, [service.post(client, **value, input_audio=large)], time.monotonic())
    report.add("the temporary disk is full", rounds, lost=len(counted.lost) + len(silent), recovery=counted.recovery)
    assert not silent
    assert not counted.lost
    assert not counted.doubled
