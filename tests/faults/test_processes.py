"""Processes that are killed, stopped, told to end, or brought down by what they work on."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment
from tests.faults.faulty_worker import BREAK, HANG, POISON
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


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A service whose worker does not survive everything."""
    folder = tmp_path_factory.mktemp("faulty")
    with Deployment(folder, supervised=True, lease_seconds=2, MUSICGEN_MAX_REQUESTS="8") as deployment:
        deployment.terminate("worker-0")
        deployment.members["worker-0"].command[:] = [sys.executable, "-m", "tests.faults.faulty_worker"]
        deployment.start("worker-0")
        yield deployment


def test_a_job_that_kills_its_worker_takes_no_neighbour_along(faulty: Deployment, tries: Tries, report: Report) -> None:
    number, outcome = tries(1, 6), Outcome()
    for _ in range(number):
        before = load(faulty, 4, duration=3)
        poison = post(faulty, {"prompt": POISON, "duration": 20})
        behind = load(faulty, 6, duration=1)
        outcome.accepted += [*before, poison, *behind]
        outcome.check(faulty, may_fail=[poison])
        body = faulty.wait_all([poison], 60)[poison]
        assert "died 3 times while it worked on nothing else" in body["error"], body
        outcome.accepted.clear()
    outcome.add_to(report, "a job that always kills its worker, ten others beside it", number)


def test_an_engine_that_hangs_is_replaced(faulty: Deployment, tries: Tries, report: Report) -> None:
    number, outcome = tries(1, 4), Outcome()
    for _ in range(number):
        restarts = faulty.restarts["worker-0"]
        hang = post(faulty, {"prompt": HANG, "duration": 20})
        outcome.accepted = [hang, *load(faulty, 3, duration=1)]
        outcome.check(faulty, may_fail=[hang])
        assert faulty.restarts["worker-0"] > restarts
        assert "The engine is stuck: this process ends with status 70" in faulty.log("worker-0")
    outcome.add_to(report, "an engine that hangs, each time with the same job", number)


def test_a_step_that_fails_fails_only_its_cause(faulty: Deployment, tries: Tries, report: Report) -> None:
    number, outcome = tries(1, 10), Outcome()
    for _ in range(number):
        beside = load(faulty, 3, duration=10)
        cause = post(faulty, {"prompt": BREAK, "duration": 20})
        outcome.accepted = [*beside, cause]
        outcome.check(faulty, may_fail=[cause])
        assert faulty.wait_all([cause], 60)[cause]["status"] == "failed"
    outcome.add_to(report, "a decoding step that fails because of one of four requests", number)


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
