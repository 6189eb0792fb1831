"""What became of accepted predictions, counted as the table counts it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.deployment import Deployment
from tests.faults.report import Report, Row


@dataclass
class Outcome:
    """Of what one test had accepted."""

    accepted: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Gone, or failed though nothing was wrong with them."""
    doubled: list[str] = field(default_factory=list)
    """With more than one output."""
    recovery: list[float] = field(default_factory=list)
    """Seconds from each fault until the next prediction ended."""

    def check(self, deployment: Deployment, seconds: float = 180, may_fail: Sequence[str] = ()) -> None:
        """Wait until all have ended, and count. `may_fail`: the ids of those that are right to fail."""
        bodies = deployment.wait_all(self.accepted, seconds)
        for name, body in bodies.items():
            if body["status"] == "failed" and name not in may_fail:
                print(name, body["error"])
                self.lost.append(name)
            outputs = _outputs(deployment, name, most=body["status"] == "succeeded")
            if len(outputs) > (body["status"] == "succeeded"):
                print(name, body["status"], outputs)
                self.doubled.append(name)

    def add_to(self, report: Report, test: str, tries: int) -> Row:
        """Write the row; fails where a promise was broken."""
        row = report.add(test, tries, lost=len(self.lost), doubled=len(self.doubled), recovery=self.recovery)
        assert not row.is_broken, self
        return row


def _outputs(deployment: Deployment, prediction_id: str, most: int) -> list[str]:
    """The outputs of a prediction, once no more than `most` are left, or after some seconds."""
    deadline = time.monotonic() + 10
    while len(outputs := deployment.objects(prediction_id)) > most and time.monotonic() < deadline:
        time.sleep(0.2)
    return outputs


def load(deployment: Deployment, number: int, *, duration: float = 1, api: int = 0, prompt: str = "x") -> list[str]:
    """Have this many predictions accepted; a POST that is answered 503 is sent again with the same key."""
    return [post(deployment, {"prompt": f"{prompt} {n}", "duration": duration}, api=api) for n in range(number)]


def post(deployment: Deployment, value: dict[str, Any], *, api: int = 0, seconds: float = 60, **body: Any) -> str:
    """Have a prediction accepted, however often it takes; returns its id."""
    key = f"{time.monotonic_ns()}"
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx.TransportError):
            answer = deployment.client(api).post(
                "/predictions", json={"input": value, **body}, headers={"Idempotency-Key": key}
            )
            if answer.status_code == 202:
                prediction_id: str = answer.json()["id"]
                return prediction_id
            assert answer.status_code == 503, answer.text
            assert "retry-after" in answer.headers
        assert time.monotonic() < deadline, "nothing is accepted"
        time.sleep(0.2)


def ended(deployment: Deployment, ids: Sequence[str], api: int = 0) -> int:
    """How many have ended by now, of those that can be read."""
    count = 0
    for prediction_id in ids:
        with suppress(httpx.TransportError):
            answer = deployment.client(api).get(f"/predictions/{prediction_id}", timeout=10)
            count += answer.status_code == 200 and answer.json()["completed_at"] is not None
    return count


def seconds_to_next_end(deployment: Deployment, ids: Sequence[str], seconds: float = 120) -> float:
    """Wait until one more of them has ended, or all have; returns how long that took."""
    began, before = time.monotonic(), ended(deployment, ids)
    while before < len(ids) and ended(deployment, ids) <= before:
        assert time.monotonic() - began < seconds, deployment.log_tails()
        time.sleep(0.1)
    return time.monotonic() - began
