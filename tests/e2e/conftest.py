"""`musicgen serve` as a user runs it, with a tiny model of random weights unless the music itself is tested."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.servers import free_port, wait_until

LEASE_SECONDS = 3

T = TypeVar("T")


@dataclass
class Service:
    """A running service and a client of it."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path
    data: Path

    def post(self, **value: Any) -> str:
        """Ask for a prediction; returns its id."""
        answer = self.client.post("/predictions", json={"input": value})
        assert answer.status_code == 202, answer.text
        prediction_id: str = answer.json()["id"]
        return prediction_id

    def get(self, prediction_id: str) -> dict[str, Any]:
        body: dict[str, Any] = self.client.get(f"/predictions/{prediction_id}").json()
        return body

    def wait(self, prediction_id: str, *statuses: str, seconds: float = 300.0) -> dict[str, Any]:
        """Poll until the prediction is in one of the statuses, or has ended where none is given."""
        wanted = statuses or ("succeeded", "failed", "canceled")
        # Each poll takes computing time from the service.
        every = 0.02 if statuses else 0.1
        wait_until(
            lambda: self.get(prediction_id)["status"] in wanted, seconds=seconds, every=every, process=self.process
        )
        return self.get(prediction_id)

    def generate(self, **value: Any) -> dict[str, Any]:
        """Make a prediction and wait until it has succeeded."""
        body = self.wait(self.post(**value))
        assert body["status"] == "succeeded", body
        return body

    def audio(self, body: dict[str, Any]) -> bytes:
        """The output, read as any client reads it."""
        answer = httpx.get(body["output"], trust_env=False)
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) == len(answer.content)
        return answer.content

    def pid(self, name: str) -> int:
        """The process id of one of the service's processes, the newest of that name."""
        return int(re.findall(rf"started {name}, process (\d+)", self.log.read_text())[-1])

    def wait_ready(self, times: int = 1) -> None:
        """Wait until the API answers and a worker has announced its model."""
        wait_until(
            lambda: (
                self.log.read_text().count("READY") >= times
                and self.client.get("/health-check").json()["status"] == "ready"
            ),
            seconds=300,
            every=0.1,
            process=self.process,
        )


@contextmanager
def serve(data: Path, *, status: int = 0, **settings: str) -> Iterator[Service]:
    """Run `musicgen serve`. At the end one SIGTERM stops it, and it has to exit with `status`."""
    port = free_port()
    environment = {
        **os.environ,
        "PORT": str(port),
        "MUSICGEN_DATA_DIR": str(data),
        "MUSICGEN_LEASE_SECONDS": str(LEASE_SECONDS),
        "MUSICGEN_OUTBOUND_ALLOW": "127.0.0.0/8",
        "OMP_NUM_THREADS": "1",
        **settings,
    }
    data.mkdir(parents=True, exist_ok=True)
    log = data / f"log-{time.monotonic_ns()}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "serve"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=70) as client:
            service = Service(client, process, log, data)
            service.wait_ready()
            yield service
    except BaseException:
        print(log.read_text()[-8000:])
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == status, log.read_text()[-8000:]


@contextmanager
def side_by_side(contexts: Sequence[AbstractContextManager[T]]) -> Iterator[list[T]]:
    """Enter all contexts at once, and leave them at once: several services start nearly as fast as one."""
    with ThreadPoolExecutor(len(contexts)) as pool:
        entered = [pool.submit(context.__enter__) for context in contexts]
        try:
            yield [future.result() for future in entered]
        finally:
            pairs = zip(contexts, entered, strict=True)
            left = [pool.submit(context.__exit__, None, None, None) for context, at in pairs if not at.exception()]
            for future in left:
                future.result()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from musicgen_core.checkpoints.noise_model import write_noise_model

    return write_noise_model(tmp_path_factory.mktemp("model") / "noise")


@pytest.fixture(scope="session")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with default settings: the trained model that comes with the package, on two threads."""
    with serve(tmp_path_factory.mktemp("pocket"), OMP_NUM_THREADS="2") as service:
        yield service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Service]:
    """One service for all tests that leave nothing behind in it."""
    with serve(tmp_path_factory.mktemp("service"), MUSICGEN_MODEL=str(model_folder)) as service:
        yield service
