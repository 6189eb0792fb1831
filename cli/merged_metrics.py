"""The metrics of all processes of `musicgen serve` on one port, and whether they are all well.

Each process shows its own on a Unix socket in a folder that only this user can open. Each series gets a label
`process`, so that none hides another.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

ANSWER_SECONDS = 3.0
"""How long a process may take to answer. One that is stopped never does, and Prometheus waits for ten seconds."""


class MergedMetrics:
    """Asks the processes, all at once."""

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        """`sockets`: by the name of the process."""
        self._sockets = dict(sockets)
        self._pool = ThreadPoolExecutor(max(2 * len(self._sockets), 1), "metrics")

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all that answer, and which of them did."""
        up = GaugeMetricFamily(
            "musicgen_process_up", "Whether the process showed its metrics when they were read.", labels=("process",)
        )
        merged: dict[str, Metric] = {}
        for name, answer in self._ask("/metrics"):
            up.add_metric([name], 0.0 if answer is None else 1.0)
            if answer is not None:
                _merge(merged, name, answer[1])
        return [up, *merged.values()]

    def wrong(self, path: str) -> dict[str, str]:
        """Return what is wrong with the processes by what they answer to a path below /health."""
        found: dict[str, str] = {}
        for name, answer in self._ask(path):
            if answer is None:
                found[name] = "does not answer"
            elif answer[0] != 200:
                wrong = json.loads(answer[1])["wrong"]
                found[name] = "; ".join(f"{part} {what}" for part, what in wrong.items())
        return found

    def check(self, path: str) -> Callable[[], Mapping[str, str]]:
        """Return the check that asks for this path."""
        return lambda: self.wrong(path)

    def _ask(self, path: str) -> list[tuple[str, tuple[int, str] | None]]:
        answers = self._pool.map(lambda place: _get(place, path), self._sockets.values())
        return list(zip(self._sockets, answers, strict=True))


def _merge(merged: dict[str, Metric], process: str, text: str) -> None:
    for family in text_string_to_metric_families(text):
        into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        into.samples.extend(sample._replace(labels={**sample.labels, "process": process}) for sample in family.samples)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(str(self._path))


def _get(place: Path, path: str) -> tuple[int, str] | None:
    """Return status and text of an answer, or None where there is none."""
    connection = _UnixConnection(place)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def sockets_for(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return a socket's path for each name; numbers, for paths of sockets are limited to about a hundred characters."""
    return {name: folder / f"metrics-{number}.sock" for number, name in enumerate(names)}
