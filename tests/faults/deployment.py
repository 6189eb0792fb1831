"""The service as docker-compose.yml runs it: each process by itself, on addresses that the test can break.

`musicgen serve` would hide faults: it starts what died itself, and its Redis has no connection that could break.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import boto3
import httpx
import redis

from cli.redis_server import redis_command
from musicgen_core.checkpoints.noise_model import write_noise_model
from tests.faults.proxy import TcpProxy
from tests.s3_server import REGION, S3Server, s3_server
from tests.servers import free_port, wait_until

ROOT = Path(__file__).parents[2]
SECRET = "a secret that only the tests know"
BUCKET = "musicgen"
ENDED = ("succeeded", "failed", "canceled")
SUPERVISION_SECONDS = 0.1
STOP_SECONDS = 20.0
LOG_TAIL = 4000


@dataclass
class Member:
    """One process of the deployment, which plays the part of a container."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    held_down: bool = True
    """Whether the test wants it to be down: then it is not started again."""
    starts: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self) -> None:
        """Start it in a session of its own, so that signals reach what it started too."""
        with self.lock:
            if self.is_alive():
                return
            self._end_group()
            self.held_down = False
            self.starts += 1
            output: IO[bytes]
            with self.log.open("ab") as output:
                self.process = subprocess.Popen(
                    self.command,
                    env=dict(self.environment),
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def is_alive(self) -> bool:
        """Whether its main process runs, or is stopped by SIGSTOP."""
        return self.process is not None and self.process.poll() is None

    def signal_group(self, number: int) -> None:
        """Send a signal to all its processes; none where they have ended."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self, *, hold_down: bool) -> None:
        """Kill all its processes, as the end of a container does."""
        with self.lock:
            self.held_down = hold_down
            self._end_group()

    def terminate(self, seconds: float) -> None:
        """Ask its main process to end, as `docker stop` does, and kill it where it does not in time."""
        with self.lock:
            self.held_down = True
            if self.process is None:
                return
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
            self._end_group()

    def start_if_ended(self) -> bool:
        """Start it again where it has ended by itself."""
        # Under the lock: whoever takes it down at this moment must not find it started again.
        with self.lock:
            if self.held_down or self.is_alive():
                return False
            self.start()
            return True

    def _end_group(self) -> None:
        self.signal_group(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


class Deployment:
    """Redis behind a proxy, APIs, generating workers and a worker for webhooks; S3 behind a proxy if asked for.

    The processes are `redis`, `api-0`..., `worker-0`... and `webhooks`. Further settings are environment variables.
    `supervised`: whatever ends by itself is started again, as Compose's `restart: unless-stopped` does. `metrics`: each
    process but Redis shows its metrics on one of `metrics_ports`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        apis: int = 1,
        workers: int = 1,
        s3: bool = False,
        supervised: bool = False,
        metrics: bool = False,
        lease_seconds: float = 3,
        model: Path | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.logs = folder / "logs"
        self.members: dict[str, Member] = {}
        self.restarts: Counter[str] = Counter()
        """How often each process was started again because it had ended by itself, or was killed to that end."""
        self.metrics_ports: dict[str, int] = {}
        self.redis_proxy: TcpProxy
        self.s3_proxy: TcpProxy | None = None
        self._apis, self._workers, self._s3 = apis, workers, s3
        self._supervised = supervised
        self._metrics = metrics
        self._lease_seconds = lease_seconds
        self._model = model
        self._settings = settings
        self._server: S3Server | None = None
        self._ports: list[int] = []
        self._clients: dict[int, httpx.Client] = {}
        self._cleanup = ExitStack()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            self._prepare(cleanup)
            # While Redis can still be reached through its proxy.
            cleanup.callback(self._stop_members)
            for name in self.members:
                self.start(name)
                if name == "redis":
                    self._wait_for_redis()
            self._supervise(cleanup)
            self.wait_ready()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    # Processes.

    @property
    def names(self) -> list[str]:
        """The names of all processes."""
        return list(self.members)

    def start(self, name: str) -> None:
        """Start a process that is down."""
        self.members[name].start()

    def kill(self, name: str, *, hold_down: bool = True) -> None:
        """SIGKILL. It stays down until `start`; `hold_down=False` leaves it to the supervisor."""
        self.members[name].kill(hold_down=hold_down)

    def terminate(self, name: str, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, and SIGKILL where it has not ended after so many seconds. It stays down until `start`."""
        self.members[name].terminate(seconds)

    def restart(self, name: str, seconds: float = STOP_SECONDS) -> None:
        """End a process in order and start it again."""
        self.terminate(name, seconds)
        self.start(name)

    def stop(self, name: str) -> None:
        """SIGSTOP: it does nothing more, but its connections stay open."""
        self.members[name].signal_group(signal.SIGSTOP)

    def cont(self, name: str) -> None:
        """SIGCONT: it goes on after `stop`, and knows nothing of the time between."""
        self.members[name].signal_group(signal.SIGCONT)

    def alive(self, name: str) -> bool:
        """Whether the process is there, be it stopped."""
        return self.members[name].is_alive()

    def log(self, name: str) -> str:
        """All that the process has written, since its first start."""
        return self.members[name].log.read_text(errors="replace")

    @contextlib.contextmanager
    def redis_disk_full(self) -> Iterator[None]:
        """Let no file of Redis' grow by more than some kilobytes inside the block, as on a disk that is nearly full."""
        member = self.members["redis"]
        command = list(member.command)
        size = max((path.stat().st_size for path in (self.data / "redis").rglob("*.aof")), default=0)
        # In units of 1024 bytes. The signal that a write beyond the limit causes is ignored, and so the write fails.
        script = f"trap '' XFSZ; ulimit -f {size // 1024 + 40}; exec {shlex.join(command)}"
        member.command[:] = ["bash", "-c", script]
        self.restart("redis")
        try:
            yield
        finally:
            member.command[:] = command
            self.restart("redis")

    # The service.

    def client(self, n: int = 0) -> httpx.Client:
        """A client of one API."""
        return self._clients[n]

    def base_url(self, n: int = 0) -> str:
        """The address of one API."""
        return f"http://127.0.0.1:{self._ports[n]}"

    @property
    def redis_url(self) -> str:
        """Redis as the processes reach it, through the proxy."""
        return f"redis://127.0.0.1:{self.redis_proxy.port}/0"

    def post(self, client: httpx.Client, **value: Any) -> str:
        """Ask for a prediction with this input; returns its id."""
        answer = client.post("/predictions", json={"input": value})
        assert answer.status_code == 202, f"{answer.status_code}: {answer.text}"
        prediction_id: str = answer.json()["id"]
        return prediction_id

    def wait_all(self, ids: Sequence[str], seconds: float) -> dict[str, dict[str, Any]]:
        """Poll until all have ended; returns their bodies. Fails, with those that have not, when the time is over.

        A poll that gets no answer, or 5xx, is repeated: whether that may happen is for the test to check by itself.
        """
        deadline = time.monotonic() + seconds
        bodies: dict[str, dict[str, Any]] = {}
        statuses: dict[str, object] = dict.fromkeys(ids)
        while waiting := [prediction_id for prediction_id in ids if prediction_id not in bodies]:
            assert time.monotonic() < deadline, {name: statuses[name] for name in waiting}
            for prediction_id in waiting:
                try:
                    answer = self.client().get(f"/predictions/{prediction_id}", timeout=5)
                except httpx.TransportError as error:
                    statuses[prediction_id] = repr(error)
                    continue
                if answer.status_code >= 500:
                    statuses[prediction_id] = answer.status_code
                    continue
                assert answer.status_code == 200, f"{prediction_id}: {answer.status_code} {answer.text}"
                body = answer.json()
                statuses[prediction_id] = body["status"]
                if body["status"] in ENDED:
                    bodies[prediction_id] = body
            time.sleep(0.1)
        return bodies

    def objects(self, prediction_id: str) -> list[str]:
        """The output files that are stored for a prediction, read past the proxy."""
        if self._server is None:
            found = (self.data / "objects/predictions" / prediction_id).glob("**/output.*")
            return sorted(str(path.relative_to(self.data / "objects")) for path in found)
        client = boto3.client(
            "s3",
            endpoint_url=self._server.endpoint,
            aws_access_key_id=self._server.access_key,
            aws_secret_access_key=self._server.secret_key,
            region_name=REGION,
        )
        with contextlib.closing(client):
            listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"predictions/{prediction_id}/").get("Contents", [])
        return sorted(item["Key"] for item in listed if item["Key"].rpartition("/")[2].startswith("output."))

    def is_ready(self) -> bool:
        """Whether every API answers and sees at least as many live workers as there should be."""
        try:
            answers = [self.client(n).get("/health-check", timeout=5).json() for n in range(self._apis)]
        except httpx.TransportError:
            return False
        return all(answer["status"] == "ready" and answer["workers"] >= self._workers for answer in answers)

    def wait_ready(self, seconds: float = 180) -> None:
        """Wait until `is_ready`; fails with the ends of the logs."""
        try:
            wait_until(self.is_ready, seconds=seconds, every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tails()}") from error

    def log_tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {name}\n{self.log(name)[-LOG_TAIL:]}" for name in self.members)

    # How it is put together.

    def _prepare(self, cleanup: ExitStack) -> None:
        for folder in (self.folder, self.data, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        # Paths of Unix sockets are limited to about a hundred characters.
        private = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="musicgen-")))
        redis_port = free_port()
        self.redis_proxy = cleanup.enter_context(TcpProxy(("127.0.0.1", redis_port)))
        environment = self._environment(cleanup)
        # Of an option that is given twice, the server takes the last.
        listen = ["--port", str(redis_port), "--bind", "127.0.0.1"]
        self._add("redis", [*redis_command(self.data, private / "redis.sock"), *listen], os.environ)
        self._ports = [free_port() for _ in range(self._apis)]
        for n, port in enumerate(self._ports):
            self._add(f"api-{n}", _musicgen("api"), {**environment, "PORT": str(port)})
            self._clients[n] = cleanup.enter_context(
                httpx.Client(base_url=self.base_url(n), trust_env=False, timeout=70)
            )
        for n in range(self._workers):
            self._add(f"worker-{n}", _musicgen("worker"), environment)
        self._add("webhooks", _musicgen("worker", "--queues", "webhooks"), environment)

    def _add(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        log = self.logs / f"{name}.log"
        log.touch()
        if self._metrics and name != "redis":
            self.metrics_ports[name] = free_port()
            environment = {**environment, "MUSICGEN_METRICS_PORT": str(self.metrics_ports[name])}
        self.members[name] = Member(name, command, environment, log)

    def _environment(self, cleanup: ExitStack) -> dict[str, str]:
        model = self._model or self.folder / "noise"
        if not model.exists():
            write_noise_model(model)
        # Nothing of whoever runs the tests may change the service.
        inherited = {
            name: value for name, value in os.environ.items() if name != "PORT" and not name.startswith("MUSICGEN_")
        }
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "MUSICGEN_REDIS_URL": self.redis_url,
            "MUSICGEN_SECRET": SECRET,
            "MUSICGEN_DATA_DIR": str(self.data),
            "MUSICGEN_LEASE_SECONDS": str(self._lease_seconds),
            "MUSICGEN_OUTBOUND_ALLOW": "127.0.0.0/8",
            "MUSICGEN_MODEL": str(model),
            **(self._s3_settings(cleanup) if self._s3 else {}),
            **self._settings,
        }

    def _s3_settings(self, cleanup: ExitStack) -> dict[str, str]:
        folder = self.folder / "s3"
        folder.mkdir()
        self._server = cleanup.enter_context(s3_server(folder))
        port = httpx.URL(self._server.endpoint).port
        assert port is not None
        self.s3_proxy = cleanup.enter_context(TcpProxy(("127.0.0.1", port)))
        return {
            "MUSICGEN_STORAGE": "s3",
            "MUSICGEN_S3_ENDPOINT": f"http://127.0.0.1:{self.s3_proxy.port}",
            "MUSICGEN_S3_BUCKET": BUCKET,
            "MUSICGEN_S3_REGION": REGION,
            "MUSICGEN_S3_ACCESS_KEY": self._server.access_key,
            "MUSICGEN_S3_SECRET_KEY": self._server.secret_key,
            "MUSICGEN_S3_CREATE_BUCKET": "true",
        }

    def _wait_for_redis(self) -> None:
        def answers() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(client.ping())
            return False

        with redis.Redis.from_url(self.redis_url) as client:
            wait_until(answers, seconds=30)

    def _supervise(self, cleanup: ExitStack) -> None:
        if not self._supervised:
            return

        def supervise() -> None:
            while not self._closing.wait(SUPERVISION_SECONDS):
                for name, member in self.members.items():
                    self.restarts[name] += member.start_if_ended()

        thread = threading.Thread(target=supervise, name="supervisor")
        thread.start()
        cleanup.callback(thread.join)
        cleanup.callback(self._closing.set)

    def _stop_members(self) -> None:
        """End the processes that use Redis side by side, then Redis."""
        used = [member for member in self.members.values() if member.name != "redis"]
        for member in used:
            member.signal_group(signal.SIGCONT)
        enders = [threading.Thread(target=member.terminate, args=(STOP_SECONDS,)) for member in used]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        if "redis" in self.members:
            self.members["redis"].signal_group(signal.SIGCONT)
            self.terminate("redis")


def _musicgen(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", *arguments]
