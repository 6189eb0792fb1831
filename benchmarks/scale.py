"""What one Redis carries: POSTs accepted, predictions finished, by API processes, workers and how many wait.

The API, the workers and Redis are those that `musicgen serve` starts, and Redis syncs every answer to the disk. Of a
worker the engine alone is replaced (`benchmarks.stand_in`). All share this machine's cores, so the wall clock says when
those are used up; what Redis can carry follows from the processor time that it spends on each prediction.

python -m benchmarks.scale                 # minutes
python -m benchmarks.scale --quick
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import multiprocessing.context
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

from redis.client import PubSub

from benchmarks import gpus, machine, stand_in
from benchmarks.api.accepting import BODY, HEADERS, load
from benchmarks.api.server import server
from benchmarks.engine import MEDIUM
from benchmarks.fairness import cpu_of_each, cpu_seconds, send
from predictions.estimates import throughput
from predictions.estimates.forecast import forecast_queue
from predictions.models import announcements
from predictions.models.card import EXTRA_THREADS, Announcement
from predictions.models.inputs import Input
from predictions.record import commands
from predictions.record.command import Command
from predictions.record.prediction import NewPrediction, Prediction, Progress, new_id
from predictions.record.schema import Channel, Field, Keys, Queue, Status
from predictions.record.store import PredictionStore
from predictions.settings import DAY_SECONDS
from tests.servers import free_port, redis_server, wait_until
from worker.generation.leases import TICK_SECONDS

HELD = stand_in.SLOTS + EXTRA_THREADS
"""Predictions that a worker holds at a time."""
CLIENTS = 8
"""At once, each of which posts when a prediction has ended."""
TENANTS = 100
BATCH, BATCHES = 20, 10
SAMPLE = 50
CALLS = 500
POLLS = 10
"""How often a client is reckoned to ask for each of its predictions."""
PEAK = 3
"""How many times the mean rate the busiest hour is reckoned to have."""
CARD = Announcement(
    name=stand_in.NAME,
    version=stand_in.VERSION,
    melody=False,
    channels=1,
    sample_rate=stand_in.SAMPLE_RATE,
    max_duration=30,
    concurrency=stand_in.SLOTS,
)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    apis: Sequence[int]
    workers: Sequence[int]
    """Ascending."""
    waiting: Sequence[int]
    seconds: float
    """Of each figure."""


FULL = Size(apis=(1, 2), workers=(1, 2, 4, 8, 16), waiting=(1, 100, 10_000, 100_000), seconds=8.0)
QUICK = Size(apis=(1, 2), workers=(1, 4), waiting=(100, 10_000), seconds=3.0)


@dataclass(frozen=True)
class Spent:
    """What happened in Redis, between two readings or since its start."""

    seconds: float
    cpu: float
    """Seconds of its main thread, which executes all commands."""
    disk: float
    """Seconds in which that thread wrote its file and waited for the disk."""
    scripts: int
    commands: int
    """Scripts, and what they called."""
    taken: int
    finished: int

    def since(self, before: Spent) -> Spent:
        return Spent(**{name: value - getattr(before, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Costs:
    """What the last table is reckoned from: processor seconds, and memory."""

    life: float
    """Of Redis, for one of the stand-in's predictions from its POST to its end."""
    kept: float
    """Bytes of Redis' memory, for one that has ended."""
    renew: float
    poll: float
    api_post: float
    api_poll: float


def measure(size: Size = QUICK) -> list[str]:
    """The four tables."""
    waits, works, accepts = [], [], []
    for waiting in size.waiting:
        with deployment(waiting, max(size.apis)) as running:
            renew, poll, line = scripts(running, waiting)
            waits.append(line)
            for workers in size.workers:
                life, kept, line = work(running, workers, waiting, size.seconds)
                works.append(line)
            for apis in size.apis:
                api_post, line = accept(running, apis, size.seconds)
                accepts.append(line)
            api_poll = polls(running)
    return [
        f"The stand-in takes {stand_in.STEP_SECONDS * 1000:.2f} ms a step of up to {stand_in.SLOTS} songs of "
        f"{stand_in.SONG_SECONDS} s, {gpus.songs_a_second(MEDIUM, stand_in.SONG_SECONDS, gpus.GPUS['H100 SXM']):.1f} "
        "songs a second: musicgen-medium on an H100, reckoned.",
        "",
        "| waiting | create, Redis CPU us | take | renew | finish | poll | forecast | a write's time with the disk "
        "| memory of one that waits |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *waits,
        "",
        "| waiting | workers | taken/s | finished/s | scripts/s | commands/s | Redis CPU ms a prediction | Redis busy "
        "| with the disk | memory of one that has ended |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *works,
        "",
        idle(max(size.workers), size.seconds),
        "",
        "| waiting | API processes | accepted/s | p50 ms | p99 ms | API CPU ms a POST | Redis CPU ms a POST |",
        "|--:|--:|--:|--:|--:|--:|--:|",
        *accepts,
        "",
        *songs(Costs(life, kept, renew, poll, api_post, api_poll)),
    ]


@dataclass(frozen=True)
class Deployment:
    """A Redis and API processes, and what a worker beside them needs."""

    store: PredictionStore
    ports: Sequence[int]
    pids: Sequence[int]
    environment: dict[str, str]
    bytes_each: float
    """Memory of Redis for each prediction that waits."""


@contextmanager
def deployment(waiting: int, apis: int) -> Iterator[Deployment]:
    """Start it, with so many that wait."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        store = PredictionStore(url := stack.enter_context(redis_server(Path(folder))))
        stack.callback(store.close)
        store.run(announcements.announce("bench", CARD, 3600, queue=Queue.GENERATION))
        # So that there are estimates before the first worker has come.
        store.run(
            throughput.measured_steps(
                Queue.GENERATION, CARD.version, together=stand_in.SLOTS, step_seconds=stand_in.STEP_SECONDS
            )
        )
        before = store.redis.info("memory")["used_memory"]
        fill(store, waiting)
        bytes_each = (store.redis.info("memory")["used_memory"] - before) / waiting
        rewrite_file(store)
        environment = settings(url, folder)
        ports = [free_port() for _ in range(apis)]
        command = [sys.executable, "-m", "cli.main", "api"]
        processes = [
            stack.enter_context(server(command, {**os.environ, **environment, "PORT": str(port)}, port))
            for port in ports
        ]
        yield Deployment(store, ports, [process.pid for process in processes], environment, bytes_each)


def rewrite_file(store: PredictionStore) -> None:
    """Have Redis write its file anew, as it does by itself when that has doubled, and wait: that slows all else."""
    # One may have begun by itself.
    wait_until(lambda: not store.redis.info("persistence")["aof_rewrite_in_progress"], seconds=600)
    store.redis.bgrewriteaof()
    wait_until(lambda: not store.redis.info("persistence")["aof_rewrite_in_progress"], seconds=600)


def settings(redis_url: str, folder: str) -> dict[str, str]:
    """The environment of the API and of the workers."""
    return {
        "MUSICGEN_REDIS_URL": redis_url,
        "MUSICGEN_SECRET": "benchmark secret, not used",
        "MUSICGEN_MAX_QUEUED": "10000000",
        "MUSICGEN_DATA_DIR": folder,
    }


def fill(store: PredictionStore, waiting: int) -> None:
    """Have at least this many wait, those that are missing in turn of each tenant."""
    send(store, [create(number) for number in range(waiting - count_waiting(store))])


def count_waiting(store: PredictionStore) -> int:
    return int(store.redis.hlen(Keys.waiting(Queue.GENERATION)))


def create(number: int) -> Command[Any]:
    value = Input(prompt="warm lo-fi piano with soft drums", duration=stand_in.SONG_SECONDS).with_seed()
    new = NewPrediction(
        id=new_id(),
        owner=f"tenant{number % TENANTS}",
        digest="d",
        input=value.model_dump(mode="json"),
        model=CARD.name,
        version=CARD.version,
        queue=Queue.GENERATION,
        base_url="http://127.0.0.1:8000",
    )
    return commands.create(new, remember_seconds=60, max_queued=10_000_000)


def scripts(running: Deployment, waiting: int) -> tuple[float, float, str]:
    """The processor time of Redis for each script, beside those that wait: of a renewal and a poll, and the row.

    Other work on the machine takes caches away, so the least of several batches counts.
    """
    spent, disk = [], disk_seconds(running.store)
    for _ in range(BATCHES):
        create_, created = cpu_of_each(running.store, [create(number) for number in range(BATCH)])
        poll, _ = cpu_of_each(running.store, [commands.get(one.prediction.id) for one in created])
        take, taken = cpu_of_each(
            running.store, [commands.take(Queue.GENERATION, new_id(), 3600) for _ in range(BATCH)]
        )
        renew_, _ = cpu_of_each(running.store, [renew(prediction) for prediction in taken])
        finish, _ = cpu_of_each(running.store, [succeed(prediction) for prediction in taken])
        forecast, _ = cpu_of_each(running.store, [forecast_queue(Queue.GENERATION)] * BATCH)
        spent.append((create_, take, renew_, finish, poll, forecast))
    least = [min(column) for column in zip(*spent, strict=True)]
    cells = " | ".join(f"{seconds * 1e6:.0f}" for seconds in least)
    # Where only a few wait, what Redis needs once for a queue is most of it.
    each = f"{running.bytes_each / 1024:.1f} KiB" if waiting >= TENANTS else ""
    # Four of the scripts write.
    sync = (disk_seconds(running.store) - disk) / (4 * BATCH * BATCHES)
    return least[2], least[4], f"| {waiting:,} | {cells} | {sync * 1000:.1f} ms | {each} |"


def renew(prediction: Prediction) -> Command[bool]:
    """A renewal as a worker makes it while music is generated: progress and a line of the log."""
    return commands.renew(prediction.id, prediction.lease_token, 3600, progress=Progress(1, 2), logs="half of it\n")


def succeed(prediction: Prediction) -> Command[bool]:
    done = Progress(1, 1)
    return commands.succeed(prediction.id, prediction.lease_token, output_key="k", metrics={}, logs="", progress=done)


def work(running: Deployment, workers: int, waiting: int, seconds: float) -> tuple[float, float, str]:
    """What a prediction costs Redis, in seconds and, once it has ended, in bytes, and the row.

    For each prediction that ends a client posts another one, so that always as many wait.
    """
    store = running.store
    fill(store, waiting + workers * HELD)
    began, wave = read(store), workers * stand_in.SLOTS

    def wait_for(finished: int, since: Spent) -> None:
        def is_reached() -> bool:
            assert all(process.is_alive() for process in processes), "a worker has ended"
            return read(store).since(since).finished >= finished

        wait_until(is_reached, seconds=600, every=0.1)

    with clients(store, running.ports[0]), crew(running.environment, workers) as processes:
        # Those that began together have ended, and their successors are spread.
        wait_for(2 * wave, began)
        before = read(store)
        time.sleep(seconds)
        wait_for(wave, before)
        spent = read(store).since(before)
    each, kept = spent.cpu / spent.finished, bytes_kept(store)
    rates = [spent.taken, spent.finished, spent.scripts, spent.commands]
    cells = " | ".join(f"{amount / spent.seconds:,.1f}" for amount in rates)
    busy, disk = spent.cpu / spent.seconds, spent.disk / spent.seconds
    cells = f"{cells} | {each * 1000:.2f} | {busy:.0%} | {disk:.0%} | {kept / 1024:.1f} KiB"
    return each, kept, f"| {waiting:,} | {workers} | {cells} |"


def bytes_kept(store: PredictionStore) -> float:
    """Redis' memory for the record and the events of a prediction that has ended: the median of the last ones."""
    ended = store.redis.zrevrange(Keys.ended(), 0, SAMPLE - 1)
    keys = [(Keys.prediction(prediction), Keys.events(prediction)) for prediction in ended]
    return median(sum(store.redis.memory_usage(key, samples=0) for key in both) for both in keys)


def read(store: PredictionStore) -> Spent:
    """What has happened since Redis was started."""
    counts = store.redis.hgetall(Keys.counts(Queue.GENERATION))
    calls = store.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    return Spent(
        seconds=time.perf_counter(),
        cpu=cpu_seconds(store),
        disk=disk_seconds(store),
        scripts=calls,
        commands=store.redis.info("stats")["total_commands_processed"],
        taken=int(counts.get("taken", 0)),
        finished=int(counts.get(Field.ended(Status.SUCCEEDED, ""), 0)),
    )


def disk_seconds(store: PredictionStore) -> float:
    """How long Redis' thread has been writing its file and waiting for the disk."""
    return float(store.redis.info("debug")["eventloop_duration_aof_sum"]) / 1e6


@contextmanager
def crew(environment: dict[str, str], workers: int) -> Iterator[list[multiprocessing.context.ForkServerProcess]]:
    """Run worker processes; at the end they finish what they have begun."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([stand_in.__name__])
    quiet = {**environment, "MUSICGEN_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
    processes = [context.Process(target=stand_in.run, args=(quiet,)) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


@contextmanager
def clients(store: PredictionStore, port: int) -> Iterator[None]:
    """Post a prediction for each one that ends."""
    done = threading.Event()
    with store.subscription() as ended, ThreadPoolExecutor(CLIENTS + 1) as pool:
        ended.subscribe(Channel.ENDED)
        posting = pool.submit(post_for_each, ended, pool, port, done)
        try:
            yield
        finally:
            done.set()
            for posted in posting.result():
                posted.result()


def post_for_each(ended: PubSub, pool: Executor, port: int, done: threading.Event) -> list[Future[str]]:
    posting = []
    while (message := ended.get_message(timeout=0.1)) or not done.is_set():
        if message:
            posting.append(pool.submit(post, port))
    return posting


def post(port: int) -> str:
    """Post a prediction, again where Redis did not answer in time; returns its id."""
    headers = {**HEADERS, "Idempotency-Key": new_id()}
    while True:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/predictions", BODY, headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        if answer.status != 503:
            assert answer.status == 202, body
            return str(body["id"])


def idle(workers: int, seconds: float) -> str:
    """What workers cost Redis that have nothing to do."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, redis_server(Path(folder)) as url:
        store = PredictionStore(url)
        with crew(settings(url, folder), workers):
            wait_until(lambda: store.redis.zcard(Keys.workers(Queue.GENERATION)) == workers, seconds=600)
            before = read(store)
            time.sleep(seconds)
            spent = read(store).since(before)
        store.close()
    each = spent.cpu / spent.seconds / workers
    return f"A worker that has nothing to do costs Redis {each * 1000:.1f} ms of CPU time a second ({workers} workers)."


def accept(running: Deployment, apis: int, seconds: float) -> tuple[float, str]:
    """What a POST costs the API, in seconds, and the row: posts to so many API processes at once, without workers."""
    store = running.store

    def spent() -> tuple[int, float, float]:
        return count_waiting(store), cpu_seconds(store), sum(map(machine.cpu_seconds, running.pids))

    before = spent()
    with ThreadPoolExecutor(apis) as pool:
        loads = list(pool.map(lambda port: load(port, seconds), running.ports[:apis]))
    assert not any(one["refused"] for one in loads), loads
    after = spent()
    accepted, redis, api = (new - old for new, old in zip(after, before, strict=True))
    post = api / accepted
    cells = (
        f"{before[0]:,} to {after[0]:,}",
        apis,
        f"{sum(one['per_second'] for one in loads):,.0f}",
        *(f"{max(one[key] for one in loads):.0f}" for key in ("p50_ms", "p99_ms")),
        f"{post * 1000:.2f}",
        f"{redis / accepted * 1000:.3f}",
    )
    return post, f"| {' | '.join(map(str, cells))} |"


def polls(running: Deployment) -> float:
    """What it costs the API, in seconds, to be asked for a prediction that waits."""
    connection = HTTPConnection("127.0.0.1", running.ports[0])
    path, before = f"/predictions/{post(running.ports[0])}", machine.cpu_seconds(running.pids[0])
    for _ in range(CALLS):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    connection.close()
    return (machine.cpu_seconds(running.pids[0]) - before) / CALLS


def songs(costs: Costs) -> list[str]:
    """What so many songs of half a minute need, reckoned from what was measured last, with the most that waited."""
    delivered = gpus.GPUS["H100 SXM"]
    rate = gpus.songs_a_second(MEDIUM, gpus.SONG_SECONDS, delivered)
    # A song is worked on for longer than the stand-in's, and its lease and progress are written down meanwhile.
    longer = gpus.REQUESTS / rate - gpus.REQUESTS / gpus.songs_a_second(MEDIUM, stand_in.SONG_SECONDS, delivered)
    redis = costs.life + longer / TICK_SECONDS * costs.renew
    polled = redis + POLLS * costs.poll
    api = costs.api_post + POLLS * costs.api_poll
    rows = []
    for period, seconds in (("a day", DAY_SECONDS), ("an hour", 3_600)):
        for count in (10, 1_000, 100_000):
            peak = PEAK * count / seconds
            cells = (f"{count:,} {period}", f"{peak:.2g}", math.ceil(peak / rate), f"{peak * api:.2g}")
            kept = count * DAY_SECONDS / seconds * costs.kept / 1e9
            rows.append(f"| {' | '.join(map(str, cells))} | {peak * polled:.1%} | {kept:.2g} GB |")
    return [
        f"| songs of {gpus.SONG_SECONDS} s | a second, at the peak | H100, musicgen-medium | cores for the API "
        "| of Redis' one core | of its memory, kept for a day |",
        "|--:|--:|--:|--:|--:|--:|",
        *rows,
        "",
        f"One Redis: {1 / redis:,.0f} such songs a second, {1 / polled:,.0f} with {POLLS} polls each. One API process: "
        f"{1 / costs.api_post:,.0f} POSTs a second, or {1 / costs.api_poll:,.0f} polls, or {1 / api:,.0f} songs with "
        f"{POLLS} polls each.",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute or two")
    given = parser.parse_args()
    print(machine.describe_machine())
    print("\n".join(measure(QUICK if given.quick else FULL)))
