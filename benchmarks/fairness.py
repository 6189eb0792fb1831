"""What the fair order costs: create, take and read beside 10 to 100,000 that wait, of one tenant and of a thousand.

And what it gives: how soon a tenant with ten predictions has its first one taken, beside a tenant with a thousand.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from predictions.record import commands
from predictions.record.command import Command
from predictions.record.prediction import NewPrediction, Prediction, Progress, new_id
from predictions.record.schema import Queue
from predictions.record.scripts import script
from predictions.record.store import PredictionStore
from tests.servers import redis_server

WAITING = (10, 1_000, 100_000)
TENANTS = (1, 1_000)
CALLS = 400
AT_ONCE, BATCH = 50, 20
SLOTS = 8


def measure(waiting: tuple[int, ...] = WAITING) -> list[str]:
    """The CPU time that Redis spends on a command."""
    rows = []
    for count in waiting:
        for tenants in TENANTS:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder, connected(Path(folder)) as store:
                rows.append(row(store, count, min(count, tenants)))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, connected(Path(folder)) as store:
        between, share = late_comer(store)
    return [
        "| waiting | tenants | create, CPU us | take | read one of the last |",
        "|--:|--:|--:|--:|--:|",
        *rows,
        "",
        f"One tenant has 1,000 waiting and {SLOTS} running, another posts 10: {between} of the first's were taken "
        f"before the second's first, and {share} before its tenth.",
    ]


@contextmanager
def connected(folder: Path) -> Iterator[PredictionStore]:
    with redis_server(folder) as url:
        store = PredictionStore(url)
        # Syncing to the disk is the same for all.
        store.redis.config_set("appendfsync", "no")
        yield store
        store.close()


def row(store: PredictionStore, count: int, tenants: int) -> str:
    fill(store, count, tenants)
    created = timed(store, [create(f"t{n % tenants}", f"c{n}", count) for n in range(CALLS)])
    read = timed(store, [commands.get(f"c{CALLS - 1 - n % min(CALLS, tenants)}") for n in range(CALLS)])
    taken = timed(store, [commands.take(Queue.GENERATION, new_id(), 3600) for _ in range(min(CALLS, count))])
    return f"| {count:,} | {tenants:,} | {created} | {taken} | {read} |"


def fill(store: PredictionStore, count: int, tenants: int) -> None:
    """Have this many wait, in turn of each tenant."""
    send(store, [create(f"t{n % tenants}", f"p{n}", count) for n in range(count)])


def send(store: PredictionStore, calls: list[Command[Any]]) -> None:
    """Run many commands, a pipeline of some at a time."""
    for name in {call.script for call in calls}:
        store.redis.script_load(script(name).text)
    for first in range(0, len(calls), AT_ONCE):
        pipeline = store.redis.pipeline(transaction=False)
        for call in calls[first : first + AT_ONCE]:
            pipeline.evalsha(script(call.script).sha, 0, json.dumps(call.arguments))
        pipeline.execute()


def create(owner: str, prediction_id: str, count: int) -> Command[Any]:
    new = NewPrediction(
        id=prediction_id,
        owner=owner,
        digest="d",
        input={"prompt": "warm lo-fi piano with soft drums", "duration": 5 + len(prediction_id)},
        model="a/a",
        version="v",
        queue=Queue.GENERATION,
        base_url="http://127.0.0.1:8000",
    )
    return commands.create(new, remember_seconds=60, max_queued=count + CALLS)


def timed(store: PredictionStore, calls: list[Command[Any]]) -> str:
    """The CPU time that Redis spends on each command, reading and answering included, in microseconds.

    Other work on the machine takes caches away, so the least of several batches counts.
    """
    spent = [cpu_of_each(store, calls[first : first + BATCH])[0] for first in range(0, len(calls), BATCH)]
    return f"{min(spent) * 1e6:.0f}"


def cpu_of_each(store: PredictionStore, calls: list[Command[Any]]) -> tuple[float, list[Any]]:
    """The CPU time that Redis spends on each of these commands, in seconds, and their results."""
    before = cpu_seconds(store)
    results = [store.run(call) for call in calls]
    return (cpu_seconds(store) - before) / len(calls), results


def cpu_seconds(store: PredictionStore) -> float:
    spent = store.redis.info("cpu")
    return float(spent["used_cpu_user_main_thread"]) + float(spent["used_cpu_sys_main_thread"])


def late_comer(store: PredictionStore) -> tuple[int, int]:
    """How many of a busy tenant's predictions are taken before a second tenant's first and tenth."""
    fill(store, 1_000 + SLOTS, 1)
    running = [take(store) for _ in range(SLOTS)]
    for n in range(10):
        store.run(create("late", f"late{n}", 2_000))
    taken: list[str] = []
    while sum(name == "late" for name in taken) < 10:
        oldest = running.pop(0)
        done = Progress(1, 1)
        token = oldest.lease_token
        store.run(commands.succeed(oldest.id, token, output_key="k", metrics={}, logs="", progress=done))
        running.append(take(store))
        taken.append(running[-1].owner)
    return taken.index("late"), len(taken) - 10


def take(store: PredictionStore) -> Prediction:
    taken = store.run(commands.take(Queue.GENERATION, new_id(), 3600))
    assert taken is not None
    return taken


if __name__ == "__main__":
    print("\n".join(measure()))
