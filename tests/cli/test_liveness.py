"""A process of `musicgen serve` that hangs is replaced; one that nobody can judge is left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import redis

from cli import liveness
from cli.child_process import ChildProcess
from cli.liveness import SignsOfLife, Watch
from predictions.errors import StoreUnavailable
from predictions.settings import Settings
from tests.app.conftest import CARD
from tests.servers import free_port, redis_server, wait_until

ANNOUNCER = f"""
import os, sys, time
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.record.store import PredictionStore
card = Announcement.model_validate_json({CARD.model_dump_json()!r})
store = PredictionStore(sys.argv[1])
while True:
    store.run(announcements.announce(f"generation@host:{{os.getpid()}}", card, 0.5, queue="generation"))
    time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def _frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "PERIOD_SECONDS", 0.02)


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Worker(ChildProcess):
    """A child that announces itself as a worker does, and remembers which processes were seen alive."""

    def __init__(self, settings: Settings) -> None:
        command = [sys.executable, "-c", ANNOUNCER, settings.redis_url]
        super().__init__("worker", command, os.environ, self.is_alive, silence_seconds=0.5)
        self.signs = SignsOfLife(settings)
        self.seen: set[int] = set()

    def is_alive(self, process: int) -> bool:
        alive = self.signs.of_worker(process)
        if alive:
            self.seen.add(process)
        return alive

    def wait_alive(self) -> None:
        wait_until(lambda: self.process.pid in self.seen, process=self.process)


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    worker = Worker(settings)
    worker.start()
    yield worker
    worker.terminate()
    worker.wait(0.0)


def test_a_stopped_worker_is_replaced(worker: Worker, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = worker.process
    worker.wait_alive()
    stopped.send_signal(signal.SIGSTOP)

    def is_replaced() -> bool:
        worker.restart_if_needed()
        return worker.process is not stopped

    wait_until(is_replaced)
    worker.wait_alive()
    assert stopped.returncode == -signal.SIGKILL
    assert "worker has given no sign of life" in capsys.readouterr().out


def test_a_stopped_process_ends_when_it_is_asked_to(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGSTOP)
    worker.terminate()
    assert worker.process.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("answers", "stuck"),
    [
        pytest.param([True, False, False], True, id="silent after a sign of life"),
        pytest.param([False, False, False], False, id="never announced"),
        pytest.param([True, False, True, False], False, id="alive in between"),
        pytest.param([True, False, None, False], False, id="Redis away in between"),
    ],
)
def test_silence_counts_only_where_it_means_something(answers: list[bool | None], stuck: bool) -> None:
    """None: Redis cannot be reached. Two failed checks in a row are too long a silence here."""
    remaining = iter(answers)
    done = threading.Event()
    go_on = threading.Event()

    def check(_process: int) -> bool:
        answer = next(remaining, done)
        if answer is done:
            done.set()
            go_on.wait()
        if not isinstance(answer, bool):
            raise StoreUnavailable("away")
        return answer

    with running(["sleep", "600"]) as process:
        watch = Watch(process, check, silence_seconds=0.0)
        assert done.wait(60)
        assert watch.is_stuck is stuck
        go_on.set()


def test_workers_are_not_judged_without_redis(tmp_path: Path) -> None:
    signs = SignsOfLife(Settings(redis_url=f"unix://{tmp_path}/none"))
    with pytest.raises(StoreUnavailable):
        signs.of_worker(1)
    assert not signs.of_redis(1)


def test_redis_is_alive_where_it_cannot_write_to_its_disk() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="redis-") as folder,
        redis_server(Path(folder)) as url,
        redis.Redis.from_url(url) as client,
    ):
        shutil.rmtree(Path(folder) / "redis")
        client.config_set("save", "3600 1")
        client.bgsave()
        wait_until(lambda: client.info()["rdb_last_bgsave_status"] == "err")
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            client.ping()
        assert SignsOfLife(Settings(redis_url=url)).of_redis(1)
        # Without this it would not stop either.
        client.config_set("save", "")


def test_the_api_is_alive_where_it_answers_anything(settings: Settings) -> None:
    port = free_port()
    signs = SignsOfLife(settings.model_copy(update={"port": port}))
    assert not signs.of_api(1)
    # Its handler knows no method, so it answers 501.
    with HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request).start()
        assert signs.of_api(1)


def test_the_api_is_not_judged_without_redis(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        SignsOfLife(Settings(redis_url=f"unix://{tmp_path}/none", port=free_port())).of_api(1)
