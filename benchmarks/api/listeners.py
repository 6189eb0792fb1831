"""Five hundred listeners on one API process, of one prediction and of fifty: its memory, connections and delay."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.api.server import server
from benchmarks.machine import resident_mb
from predictions.models import announcements
from predictions.record import commands
from predictions.record.prediction import Progress
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from tests.app.conftest import CARD
from tests.records import claim
from tests.servers import free_port, redis_server

LISTENERS = 500


def measure() -> list[str]:
    """Listeners of one prediction, then of fifty, each time on a new process. All must receive the last event."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, redis_server(Path(folder)) as url:
        store = PredictionStore(url)
        store.run(announcements.announce("bench", CARD, 3600, queue=Queue.GENERATION))
        lines = [one_process(store, url, folder, predictions) for predictions in (1, 50)]
        store.close()
    return lines


def one_process(store: PredictionStore, url: str, folder: str, predictions: int) -> str:
    port = free_port()
    environment = {
        **os.environ,
        "PORT": str(port),
        "MUSICGEN_REDIS_URL": url,
        "MUSICGEN_SECRET": "benchmark secret, not used",
        "MUSICGEN_DATA_DIR": folder,
    }
    with server([sys.executable, "-m", "cli.main", "api"], environment, port) as api:
        return asyncio.run(follow(store, port, api.pid, predictions))


async def follow(store: PredictionStore, port: int, pid: int, predictions: int) -> str:
    ids = [create(port) for _ in range(predictions)]
    before = resident_mb(pid)
    connections = len(store.redis.client_list())
    heard = [asyncio.Event() for _ in range(LISTENERS)]
    listeners = [
        asyncio.create_task(listen(port, ids[number % predictions], heard[number])) for number in range(LISTENERS)
    ]
    await asyncio.wait([*listeners, asyncio.gather(*(event.wait() for event in heard))], return_when="FIRST_COMPLETED")
    assert all(event.is_set() for event in heard), [task.exception() for task in listeners if task.done()]
    held = resident_mb(pid)
    links = len(store.redis.client_list()) - connections
    attempts = {prediction_id: claim(store, prediction_id, 60) for prediction_id in ids}
    await asyncio.sleep(1)
    began = time.perf_counter()
    for prediction_id, attempt in attempts.items():
        store.run(
            commands.succeed(prediction_id, attempt, output_key="k", metrics={}, logs="l", progress=Progress(1, 1))
        )
    delays = [ended - began for ended in await asyncio.gather(*listeners)]
    return (
        f"{LISTENERS} listeners of {predictions} prediction(s): API resident {before:.1f} MB before, "
        f"{held:.1f} MB with them, {(held - before) * 1024 / LISTENERS:.0f} KiB a listener; "
        f"{links} more connections to Redis; "
        f"the end heard after {statistics.median(delays) * 1000:.0f} ms (median), {max(delays) * 1000:.0f} ms (last)"
    )


def create(port: int) -> str:
    answer = httpx.post(
        f"http://127.0.0.1:{port}/predictions",
        json={"input": {"prompt": "x"}, "stream": True},
        trust_env=False,
        verify=False,
        timeout=30,
    )
    prediction_id: str = answer.json()["id"]
    return prediction_id


async def listen(port: int, prediction_id: str, heard: asyncio.Event) -> float:
    """Read a stream to its end; returns the time of its last event.

    A bare connection: five hundred HTTP clients would need more of the machine than the server.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /predictions/{prediction_id}/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    status = await reader.readline()
    assert b" 200 " in status, status
    while line := await reader.readline():
        if line.startswith(b"event: "):
            heard.set()
        if line == b"event: done\n":
            break
    else:
        raise RuntimeError("the stream broke off")
    ended = time.perf_counter()
    writer.close()
    return ended


if __name__ == "__main__":
    print("\n".join(measure()))
