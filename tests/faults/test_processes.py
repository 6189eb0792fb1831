"""Processes that are killed, stopped, or told to end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment
from tests.faults.outcome import Outcome, load, post, seconds_to_next_end
from tests.faults.report import Report

Tries = Callable[[int, int], int]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A service whose worker decodes four requests at a time."""
    folder = tmp_path_factory.mktemp("processes")
    with Deployment(folder, supervised=True, MUSICGEN_MAX_REQUESTS="4") as deployment:
        yield deployment


def test_a_worker_killed_in_mid_job(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    number, outcome = tries(2, 50), Outcome()
    for _ in range(number):
        outcome.accepted += load(deployment, 3, duration=2)
        time.sleep(choice.uniform(0.0, 1.0))
        deployment.kill("worker-0", hold_down=False)
        outcome.recovery.append(seconds_to_next_end(deployment, outcome.accepted))
    outcome.check(deployment)
    outcome.add_to(report, "worker killed in mid-job (SIGKILL)", number)


def test_a_worker_told_to_end_under_load(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    """What it has begun it finishes, at the first attempt; what waits, waits."""
    number, outcome = tries(1, 10), Outcome()
    for _ in range(number):
        outcome.accepted += load(deployment, 12, duration=2)
        time.sleep(choice.uniform(0.0, 1.0))
        began = time.monotonic()
        deployment.terminate("worker-0", seconds=60)
        outcome.recovery.append(time.monotonic() - began)
        deployment.start("worker-0")
    bodies = deployment.wait_all(outcome.accepted, 180)
    assert {body["metrics"]["attempt"] for body in bodies.values()} == {1}
    outcome.check(deployment)
    outcome.add_to(report, "worker told to end under load (SIGTERM; recovery: seconds to drain)", number)


def test_an_api_and_a_webhook_worker_that_are_killed(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    number, outcome = tries(1, 20), Outcome()
    for _ in range(number):
        outcome.accepted += load(deployment, 2)
        deployment.kill(choice.choice(["api-0", "webhooks"]), hold_down=False)
        began = time.monotonic()
        outcome.accepted.append(post(deployment, {"prompt": "x", "duration": 1}))
        outcome.recovery.append(time.monotonic() - began)
    outcome.check(deployment)
    outcome.add_to(report, "API or webhook worker killed (recovery: seconds to the next 202)", number)


def test_workers_stopped_past_their_lease(tmp_path: Path, tries: Tries, choice: random.Random, report: Report) -> None:
    """One of two goes on after the other has taken over: what it then writes is refused."""
    number, outcome = tries(1, 12), Outcome()
    with Deployment(tmp_path, workers=2, lease_seconds=2) as deployment:
        for n in range(number):
            stopped = f"worker-{n % 2}"
            ids = load(deployment, 6, duration=2)
            time.sleep(choice.uniform(0.0, 1.0))
            deployment.stop(stopped)
            outcome.recovery.append(seconds_to_next_end(deployment, ids))
            deployment.wait_all(ids, 120)
            deployment.cont(stopped)
            outcome.accepted += ids
            outcome.accepted += load(deployment, 1)
        outcome.check(deployment)
    outcome.add_to(report, "one of two workers stopped past its lease, then continued (SIGSTOP)", number)
