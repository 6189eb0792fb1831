"""Redis killed, restarted, emptied, without memory and without disk."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.faults.deployment import Deployment
from tests.faults.outcome import Outcome, load, post, seconds_to_next_end
from tests.faults.report import Report

Tries = Callable[[int, int], int]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("redis"), supervised=True) as deployment:
        yield deployment


def test_redis_killed_and_restarted(
    deployment: Deployment, tries: Tries, choice: random.Random, report: Report
) -> None:
    """With predictions waiting and running; each time right after some were accepted."""
    number, outcome = tries(3, 20), Outcome()
    for _ in range(number):
        outcome.accepted += load(deployment, choice.randint(1, 8))
        deployment.kill("redis", hold_down=False)
        outcome.recovery.append(seconds_to_next_end(deployment, outcome.accepted))
    outcome.check(deployment)
    outcome.add_to(report, "Redis killed right after accepting (SIGKILL)", number)
    assert deployment.restarts["worker-0"] == deployment.restarts["webhooks"] == 0


def test_redis_away_for_longer_than_the_lease(deployment: Deployment, tries: Tries, report: Report) -> None:
    number, outcome = tries(1, 4), Outcome()
    for _ in range(number):
        outcome.accepted += load(deployment, 12, duration=2)
        deployment.kill("redis")
        time.sleep(6)
        deployment.start("redis")
        outcome.recovery.append(seconds_to_next_end(deployment, outcome.accepted))
    outcome.check(deployment)
    outcome.add_to(report, "Redis away for twice the lease", number)


def test_the_queue_is_emptied(deployment: Deployment, tries: Tries, report: Report) -> None:
    number, outcome = tries(1, 10), Outcome()
    with redis.Redis.from_url(deployment.redis_url) as client:
        for _ in range(number):
            deployment.stop("worker-0")
            outcome.accepted += load(deployment, 6)
            client.delete("generation")
            deployment.cont("worker-0")
            outcome.recovery.append(seconds_to_next_end(deployment, outcome.accepted))
    outcome.check(deployment)
    outcome.add_to(report, "the broker's queue emptied", number)


def test_what_is_accepted_is_in_the_file(deployment: Deployment, tries: Tries, report: Report) -> None:
    """The file as it was when the answer came is cut off there and loaded: every accepted prediction is in it."""
    number, outcome = tries(3, 30), Outcome()
    with redis.Redis.from_url(deployment.redis_url, decode_responses=True) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
    deployment.stop("worker-0")
    for _ in range(number):
        [prediction_id] = load(deployment, 1)
        written = b"".join(path.read_bytes() for path in (deployment.data / "redis").rglob("*.aof"))
        if prediction_id.encode() not in written:
            outcome.lost.append(prediction_id)
        outcome.accepted.append(prediction_id)
    deployment.cont("worker-0")
    outcome.check(deployment)
    outcome.add_to(report, "accepted, and in Redis' file when the answer came", number)


def test_redis_without_memory(deployment: Deployment, tries: Tries, report: Report) -> None:
    """POSTs are refused in time; what was accepted ends; cancel and delete work; no worker ends."""
    number, outcome, limit = tries(1, 6), Outcome(), 3_000_000
    restarts = deployment.restarts.total()
    with redis.Redis.from_url(deployment.redis_url, decode_responses=True) as client:
        for _ in range(number):
            accepted = load(deployment, 6)
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 100_000)
            try:
                refused = None
                for n in range(3000):
                    answer = deployment.client().post(
                        "/predictions", json={"input": {"prompt": "y" * 900, "duration": 1}}
                    )
                    if answer.status_code != 202:
                        refused = answer
                        break
                    accepted.append(answer.json()["id"])
                    del n
                assert refused is not None
                assert refused.status_code == 503
                assert "retry-after" in refused.headers
                assert "no room" in refused.json()["detail"]
                over = client.info("memory")["used_memory"] - int(client.config_get("maxmemory")["maxmemory"])
                assert over < limit, over
                last = accepted[-1]
                assert deployment.client().post(f"/predictions/{last}/cancel").status_code == 200
                assert deployment.client().delete(f"/predictions/{last}").status_code == 204
                outcome.accepted = accepted[:-1]
                outcome.check(deployment, 300)
            finally:
                client.config_set("maxmemory", 0)
    assert deployment.restarts.total() == restarts
    outcome.add_to(report, "Redis at maxmemory", number)


def test_redis_without_disk(tmp_path: Path, tries: Tries, report: Report) -> None:
    """It ends when it cannot write, as it is told to; whoever uses it waits, and nothing accepted is gone."""
    number, outcome = tries(1, 6), Outcome()
    with Deployment(tmp_path, supervised=True) as deployment:
        for _ in range(number):
            with deployment.redis_disk_full():
                assert fill(deployment, outcome.accepted).status_code == 503
            deployment.wait_ready()
            outcome.recovery.append(seconds_to_next_end(deployment, outcome.accepted))
        outcome.accepted.append(post(deployment, {"prompt": "x", "duration": 1}))
        outcome.check(deployment, 300)
        assert deployment.restarts["worker-0"] == deployment.restarts["webhooks"] == deployment.restarts["api-0"] == 0
    outcome.add_to(report, "Redis' disk full", number)


def fill(deployment: Deployment, accepted: list[str]) -> httpx.Response:
    """Have predictions accepted until one is refused; returns the refusal."""
    body = {"input": {"prompt": "y" * 900, "duration": 1}}
    for _ in range(3000):
        answer = deployment.client().post("/predictions", json=body, timeout=30)
        if answer.status_code != 202:
            return answer
        accepted.append(answer.json()["id"])
    raise AssertionError("nothing is refused")
