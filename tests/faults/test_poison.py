"""Jobs that bring down what works on them: their neighbours must not fail with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.faults.deployment import Deployment
from tests.faults.faulty_worker import BREAK, HANG, POISON
from tests.faults.outcome import Outcome, load, post
from tests.faults.report import Report

Tries = Callable[[int, int], int]
SETTINGS = {"MUSICGEN_MAX_REQUESTS": "8", "MUSICGEN_MAX_ATTEMPTS": "2"}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A service whose worker does not survive everything."""
    folder = tmp_path_factory.mktemp("deployment")
    with Deployment(folder, supervised=True, lease_seconds=2, **SETTINGS) as deployment:
        deployment.terminate("worker-0")
        deployment.members["worker-0"].command[:] = [sys.executable, "-m", "tests.faults.faulty_worker"]
        deployment.start("worker-0")
        yield deployment


def test_a_job_that_kills_its_worker_takes_no_neighbour_along(
    deployment: Deployment, tries: Tries, report: Report
) -> None:
    number, outcome = tries(1, 5), Outcome()
    for _ in range(number):
        before = load(deployment, 4, duration=3)
        poison = post(deployment, {"prompt": POISON, "duration": 20})
        behind = load(deployment, 6, duration=1)
        outcome.accepted += [*before, poison, *behind]
        outcome.check(deployment, may_fail=[poison])
        body = deployment.wait_all([poison], 60)[poison]
        assert "died 2 times while it worked on nothing else" in body["error"], body
        outcome.accepted.clear()
    outcome.add_to(report, "a job that always kills its worker, ten others beside it", number)


def test_an_engine_that_hangs_is_replaced(deployment: Deployment, tries: Tries, report: Report) -> None:
    number, outcome = tries(1, 4), Outcome()
    for _ in range(number):
        restarts = deployment.restarts["worker-0"]
        hang = post(deployment, {"prompt": HANG, "duration": 20})
        outcome.accepted = [hang, *load(deployment, 3, duration=1)]
        outcome.check(deployment, may_fail=[hang])
        assert deployment.restarts["worker-0"] > restarts
        assert "The engine is stuck: this process ends with status 70" in deployment.log("worker-0")
    outcome.add_to(report, "an engine that hangs, each time with the same job", number)


def test_a_step_that_fails_fails_only_its_cause(deployment: Deployment, tries: Tries, report: Report) -> None:
    number, outcome = tries(1, 10), Outcome()
    for _ in range(number):
        beside = load(deployment, 3, duration=10)
        cause = post(deployment, {"prompt": BREAK, "duration": 20})
        outcome.accepted = [*beside, cause]
        outcome.check(deployment, may_fail=[cause])
        assert deployment.wait_all([cause], 60)[cause]["status"] == "failed"
    outcome.add_to(report, "a decoding step that fails because of one of four requests", number)
