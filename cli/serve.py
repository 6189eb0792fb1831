"""`musicgen serve`: everything on one machine, in one terminal.

It runs a private Redis-protocol server with persistence, the API, a worker for each model, another one that trains it
if the settings say so, and a worker that delivers webhooks. Each is a process of its own, and the storage is a local
folder. A deployment on several machines runs the same programs; only their addresses differ. A process that dies or
hangs is started again; Ctrl-C stops them all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from cli.child_process import ChildProcess
from cli.liveness import SignsOfLife
from cli.redis_server import announced, private_folder, redis_command, start_failure
from cli.terminal import say
from predictions.errors import WRONG_SETTING_STATUS, StoreUnavailable, WrongSetting
from predictions.models import announcements
from predictions.models.registry import Registry, load_registry
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from predictions.settings import Settings, load_settings
from predictions.token_file import require_readable

STOP_SECONDS = 60.0
"""How long the processes may take to finish what they have begun."""


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived."""


def run() -> int:
    """Serve until SIGINT or SIGTERM; return the exit status. Raises WrongSetting."""
    settings = load_settings()
    settings.require_safe_binding()
    require_readable(settings.tokens_file)
    registry = load_registry(settings)
    _refuse_taken_port(settings)
    # What our processes and Redis write is for nobody else to read.
    os.umask(0o077)
    data = _data_folder(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # The socket has a folder of its own: paths of Unix sockets are limited to about a hundred characters.
    with _only_one(data), tempfile.TemporaryDirectory(prefix="musicgen-") as private:
        settings = settings.model_copy(update={"redis_url": f"unix://{private}/redis.sock"})
        environment = _environment(settings, data)
        signs = SignsOfLife(settings)
        redis = ChildProcess(
            "redis", redis_command(data, Path(private) / "redis.sock"), os.environ, signs.of_redis, keeps_output=True
        )
        workers = _workers(settings, registry, environment, signs)
        others = [
            ChildProcess("api", _musicgen("api"), environment, signs.of_api),
            ChildProcess("webhooks", _musicgen("worker", "--queues", "webhooks"), environment, signs.of_worker),
        ]
        with _metrics(settings, [*workers, *others], Path(private)), announced(data, settings.redis_url):
            try:
                _supervise(redis, workers, others, settings, registry, data)
            except Interrupted:
                say("stopping: running predictions are finished first; Ctrl-C again to stop at once")
            finally:
                _stop(redis, [*workers, *others])
    return 0


@contextlib.contextmanager
def _metrics(settings: Settings, children: Sequence[ChildProcess], folder: Path) -> Iterator[None]:
    """Show the metrics of all processes on the one port, where the settings name one. Raises WrongSetting."""
    if not settings.metrics_port:
        yield
        return
    # Imported here: without a port there is no need of it.
    from cli.merged_metrics import MergedMetrics, sockets_for
    from predictions.observability.metrics import Exposition
    from predictions.observability.server import Checks, MetricsServer

    sockets = sockets_for([child.name for child in children], folder)
    for child in children:
        child.environment = {**child.environment, "MUSICGEN_METRICS_SOCKET": str(sockets[child.name])}
    merged = MergedMetrics(sockets)
    checks = Checks(*(merged.check(f"/health/{path}") for path in ("live", "ready", "startup")))
    server = MetricsServer(settings, Exposition([merged], counted=False), checks)
    server.start()
    try:
        yield
    finally:
        server.close()


def _workers(
    settings: Settings, registry: Registry, environment: Mapping[str, str], signs: SignsOfLife
) -> list[ChildProcess]:
    """A worker for each model of the registry, and another one that trains it where the settings say so."""
    workers = []
    for name, arguments in (("worker", ()), *((("trainings", ("--trainings",)),) if settings.trainings else ())):
        if settings.models is None:
            workers.append(ChildProcess(name, _musicgen("worker", *arguments), environment, signs.of_worker))
        for entry in registry.entries if settings.models is not None else ():
            command = _musicgen("worker", "--model", entry.name, *arguments)
            workers.append(ChildProcess(f"{name} of {entry.name}", command, environment, signs.of_worker))
    return workers


def _supervise(
    redis: ChildProcess,
    workers: list[ChildProcess],
    others: list[ChildProcess],
    settings: Settings,
    registry: Registry,
    data: Path,
) -> None:
    """Start everything, say when it is ready, and keep it running. Raises Interrupted.

    `workers`: those that load a model; they start at once, because that takes longest and needs no Redis. `others`:
    start when Redis answers, without which they could only complain. Raises SystemExit where Redis ends before it ever
    answers, and WrongSetting where another process says that of its settings: they would end again.
    """
    say(f"starting; data in {data}")
    store = PredictionStore(settings.redis_url)
    for child in (*workers, redis):
        child.start()
    while not store.is_reachable():
        if redis.exit_status is not None:
            raise SystemExit(start_failure(data, redis.last_output()))
        _require_right_settings(workers)
        time.sleep(0.02)
    for child in others:
        child.start()
    ready = False
    while True:
        time.sleep(0.1)
        if not ready:
            # Later a storage that is away for a while could look like a wrong setting.
            _require_right_settings([*workers, *others])
        for child in (redis, *workers, *others):
            child.restart_if_needed()
        if not ready and _is_ready(store, settings, registry, (*workers, *others)):
            ready = True
            _say_ready(settings)


def _require_right_settings(children: Iterable[ChildProcess]) -> None:
    for child in children:
        if child.exit_status == WRONG_SETTING_STATUS:
            raise WrongSetting(f"{child.name} cannot serve with its settings, and says above which one is wrong")


def _stop(redis: ChildProcess, others: list[ChildProcess]) -> None:
    """Stop the processes that write to Redis, then Redis. A second interrupt kills them at once."""
    deadline = time.monotonic() + STOP_SECONDS
    # The others need it to finish.
    redis.resume()
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
    say("stopped")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


def _data_folder(settings: Settings) -> Path:
    """The data folder, made where it does not exist; raises WrongSetting where nothing can be written in it."""
    data = settings.data_dir.resolve()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_folder(data / "objects")
        with tempfile.TemporaryFile(dir=data):
            pass
    except OSError as error:
        raise WrongSetting(
            f"MUSICGEN_DATA_DIR: nothing can be written in {data} ({error.strerror}); name a folder of your own."
        ) from error
    return data


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the data folder's lock: two services in one folder would overwrite each other's files."""
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
    """The environment of our processes: the operator's, with this service's addresses and secret."""
    return {
        **os.environ,
        "MUSICGEN_REDIS_URL": settings.redis_url,
        "MUSICGEN_DATA_DIR": str(data),
        "MUSICGEN_SECRET": settings.secret.get_secret_value() or _kept_secret(data),
        "PYTHONUNBUFFERED": "1",
        # The hub's client would otherwise send telemetry and look for updates at each start, which takes time.
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _kept_secret(data: Path) -> str:
    """The random secret of the data folder, made at the first start, so that signed URLs stay valid after a restart."""
    path = data / "secret"
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_hex(32))
        unfinished.rename(path)
    return path.read_text().strip()


def _musicgen(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", *arguments]


def _is_ready(store: PredictionStore, settings: Settings, registry: Registry, children: Iterable[ChildProcess]) -> bool:
    """Whether the API accepts connections, and each model and the webhooks have a worker of ours.

    The announcement of one that was killed holds for some seconds more. A worker's name ends in its process id.
    """
    ours = tuple(f":{child.process.pid}" for child in children if child.process is not None)
    try:
        with socket.create_connection((settings.host, settings.port), timeout=0.2):
            deployment = store.run(announcements.deployment())
            queues = [*(entry.queue for entry in registry.entries), Queue.WEBHOOKS]
            if settings.trainings:
                queues += [entry.training_queue for entry in registry.entries]
            return all(
                queue in deployment and any(name.endswith(ours) for name in deployment[queue].workers)
                for queue in queues
            )
    except (OSError, StoreUnavailable):
        return False


def _say_ready(settings: Settings) -> None:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    address = settings.public_url or f"http://{host}:{settings.port}"
    say(f"READY at {address} (API reference at {address}/docs); Ctrl-C to stop")
