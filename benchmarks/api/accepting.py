"""How many POST /predictions the API accepts a second, beside a plain route that calls `send_task`; its memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.api.server import server
from benchmarks.machine import resident_mb
from predictions.models import announcements
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from tests.app.conftest import CARD
from tests.servers import free_port, redis_server

CONNECTIONS = 32
BODY = json.dumps({"input": {"prompt": "warm lo-fi piano with soft drums", "duration": 8}}).encode()
HEADERS = {"Content-Type": "application/json"}


def measure(rounds: int = 3, seconds: float = 3.0) -> list[str]:
    """Medians of several rounds, in each of which both servers are measured in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, redis_server(Path(folder)) as url:
        store = PredictionStore(url)
        store.run(announcements.announce("bench", CARD, 3600, queue=Queue.GENERATION))
        environment = {
            **os.environ,
            "MUSICGEN_REDIS_URL": url,
            "MUSICGEN_SECRET": "benchmark secret, not used",
            "MUSICGEN_MAX_QUEUED": "10000000",
            "MUSICGEN_DATA_DIR": folder,
            "PLAIN_BROKER": url.replace("unix://", "redis+socket://"),
        }
        ours, plain = free_port(), free_port()
        results: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
        with (
            server([sys.executable, "-m", "cli.main", "api"], {**environment, "PORT": str(ours)}, ours) as api,
            server([sys.executable, "-m", "benchmarks.api.plain_route", str(plain)], environment, plain),
        ):
            idle = resident_mb(api.pid)
            for _ in range(rounds):
                results["ours"].append(load(ours, seconds))
                results["plain"].append(load(plain, seconds))
                for key in ("generation", "plain"):
                    store.redis.delete(key)
            loaded = resident_mb(api.pid)
        store.close()
    rows = [row(name, results[name]) for name in ("ours", "plain")]
    ratio = median(results["ours"], "per_second") / median(results["plain"], "per_second")
    refused = sum(item["refused"] for items in results.values() for item in items)
    return [
        "| POST /predictions, 32 connections | accepted/s | p50 ms | p99 ms |",
        "|---|---|---|---|",
        *rows,
        f"ratio {ratio:.2f}; refused {refused:.0f}; API resident {idle:.0f} MB at start, {loaded:.0f} MB at the end",
    ]


def load(port: int, seconds: float) -> dict[str, float]:
    """Post predictions for some seconds; returns what the load generator reports."""
    headers = {"Host": f"127.0.0.1:{port}", **HEADERS, "Content-Length": len(BODY)}
    head = "POST /predictions HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{head}\r\n".encode() + BODY
    arguments = ["127.0.0.1", str(port), str(CONNECTIONS), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.api.load_generator", *arguments]
    done = subprocess.run(command, input=request, capture_output=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def median(items: list[dict[str, float]], key: str) -> float:
    return statistics.median(item[key] for item in items)


def row(name: str, items: list[dict[str, float]]) -> str:
    label = {"ours": "this service", "plain": "plain route, send_task"}[name]
    spread = f"{min(i['per_second'] for i in items):.0f} to {max(i['per_second'] for i in items):.0f}"
    return (
        f"| {label} | {median(items, 'per_second'):.0f} ({spread}) "
        f"| {median(items, 'p50_ms'):.1f} | {median(items, 'p99_ms'):.1f} |"
    )


if __name__ == "__main__":
    print("\n".join(measure()))
