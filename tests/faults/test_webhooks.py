"""Webhooks to receivers that misbehave, and while the processes that should send them are killed."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest

from predictions.record import commands
from predictions.record.store import PredictionStore
from tests.faults.deployment import Deployment
from tests.faults.report import Report
from tests.servers import wait_until
from tests.webhook_receiver import HANG, Receiver, receiver

END_SECONDS = 120.0
RETRY_AFTER = 7
AGAIN_SECONDS = 8.0
"""A retry would have come by then, had there been one."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("webhooks")) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def store(service: Deployment) -> Iterator[PredictionStore]:
    store = PredictionStore(service.redis_url)
    yield store
    store.close()


def post(service: Deployment, url: str) -> str:
    """Ask for a prediction that wants its end sent there; returns its id."""
    value = {"prompt": "to be told of", "duration": 1}
    body = {"input": value, "webhook": url, "webhook_events_filter": ["completed"]}
    answer = service.client().post("/predictions", json=body)
    assert answer.status_code == 202, answer.text
    prediction_id: str = answer.json()["id"]
    return prediction_id


def delivery(service: Deployment, prediction_id: str) -> dict[str, Any]:
    """The one webhook that the prediction has, or nothing while it has none or the API does not answer."""
    try:
        results = service.client().get(f"/predictions/{prediction_id}/webhook-deliveries").json()["results"]
    except httpx.TransportError:
        return {"state": "unknown"}
    assert len(results) <= 1, results
    return results[0] if results else {"state": "none"}


@dataclass
class Sent:
    """Predictions whose receivers all give the same answers; `elsewhere` is where a redirect leads."""

    receivers: list[Receiver] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    elsewhere: Receiver = field(default_factory=Receiver)

    def settled(self, service: Deployment, state: str, seconds: float = END_SECONDS) -> list[dict[str, Any]]:
        """Wait until their webhooks are all in this state, or time is over; returns them."""
        end = time.monotonic() + seconds
        while True:
            found = [delivery(service, prediction_id) for prediction_id in self.ids]
            if all(item["state"] == state for item in found) or time.monotonic() > end:
                return found
            time.sleep(0.2)

    def check(self, report: Report, name: str, found: list[dict[str, Any]], state: str, posts: int) -> None:
        """Each receiver was told of the end of its prediction, under one id and in so many POSTs."""
        lost = stuck = doubled = 0
        recovery = []
        for known, prediction_id, item in zip(self.receivers, self.ids, found, strict=True):
            bodies = [json.loads(body) for _, body in known.received]
            lost += not any(body["id"] == prediction_id and body["status"] == "succeeded" for body in bodies)
            stuck += item["state"] != state
            doubled += len(set(known.ids())) > 1 or len(known.received) > posts
            if item["state"] == state:
                attempts = [datetime.fromisoformat(attempt["started_at"]) for attempt in item["attempts"]]
                recovery.append((attempts[-1] - attempts[0]).total_seconds())
        report.add(name, len(self.ids), lost=lost, doubled=doubled, stuck=stuck, recovery=recovery)
        assert (lost, doubled, stuck) == (0, 0, 0), found
        assert all(len(known.received) == posts for known in self.receivers)
        assert all(known.ids() == [item["id"]] * posts for known, item in zip(self.receivers, found, strict=True))


def statuses(found: list[dict[str, Any]]) -> set[tuple[int | None, ...]]:
    """The receivers' answers, in order."""
    return {tuple(attempt["status"] for attempt in item["attempts"]) for item in found}


@pytest.fixture(scope="module")
def sent(service: Deployment, request: pytest.FixtureRequest) -> Iterator[dict[str, Sent]]:
    """All the receivers at once, so that their retries do not wait for each other."""
    count = 10 if request.config.getoption("--faults") == "full" else 2
    with ExitStack() as running:
        elsewhere = running.enter_context(receiver())
        answers: dict[str, list[int | tuple[int, dict[str, str]]]] = {
            "500": [500],
            "429": [(429, {"Retry-After": str(RETRY_AFTER)})],
            "302": [(302, {"Location": elsewhere.url})],
            "410": [410],
            "hangs": [HANG],
        }
        made = {name: Sent(elsewhere=elsewhere) for name in answers}
        for _ in range(count):
            for name, given in answers.items():
                known = running.enter_context(receiver(*given))
                made[name].receivers.append(known)
                made[name].ids.append(post(service, known.url))
        yield made


def test_a_receiver_that_answers_500(service: Deployment, sent: dict[str, Sent], report: Report) -> None:
    found = sent["500"].settled(service, "delivered")
    sent["500"].check(report, "a webhook is answered 500, then 200", found, "delivered", 2)
    assert statuses(found) == {(500, 200)}


def test_a_receiver_that_asks_for_time(service: Deployment, sent: dict[str, Sent], report: Report) -> None:
    found = sent["429"].settled(service, "delivered")
    sent["429"].check(report, "a webhook is answered 429 with Retry-After", found, "delivered", 2)
    assert statuses(found) == {(429, 200)}
    for item in found:
        first, second = (datetime.fromisoformat(attempt["started_at"]) for attempt in item["attempts"])
        assert (second - first).total_seconds() >= RETRY_AFTER


def test_a_receiver_that_redirects(service: Deployment, sent: dict[str, Sent], report: Report) -> None:
    found = sent["302"].settled(service, "delivered")
    sent["302"].check(report, "a webhook is answered 302", found, "delivered", 2)
    assert statuses(found) == {(302, 200)}
    assert not sent["302"].elsewhere.received


def test_a_receiver_that_hangs(service: Deployment, sent: dict[str, Sent], report: Report) -> None:
    found = sent["hangs"].settled(service, "delivered")
    sent["hangs"].check(report, "a webhook is not answered at all, then 200", found, "delivered", 2)
    assert statuses(found) == {(None, 200)}
    assert all(item["attempts"][0]["error"] for item in found)


def test_a_receiver_that_is_gone(service: Deployment, sent: dict[str, Sent], report: Report) -> None:
    found = sent["410"].settled(service, "disabled")
    last = max(datetime.fromisoformat(item["attempts"][-1]["started_at"]) for item in found)
    time.sleep(max(0.0, AGAIN_SECONDS - (datetime.now(last.tzinfo) - last).total_seconds()))
    sent["410"].check(report, "a webhook is answered 410", found, "disabled", 1)
    assert all(item["next_attempt_at"] is None for item in found)


def test_killed_between_a_result_and_its_webhook(
    service: Deployment,
    store: PredictionStore,
    tries: Callable[[int, int], int],
    choice: random.Random,
    report: Report,
) -> None:
    """API, webhook worker or both die after a result is written down: before its webhook is begun, or at any moment."""
    count = tries(3, 50)
    targets = [("api-0", "webhooks"), ("webhooks",), ("api-0",)]
    ids: list[str] = []
    recovery = []
    with receiver() as known:

        def received() -> Counter[str]:
            return Counter(json.loads(body)["id"] for _, body in known.received)

        for n in range(count):
            # An attempt that a worker died in is made again after 30 seconds: waited for at the end, in full only.
            is_begun = n % 3 == 2 and count > 3
            if not is_begun:
                service.stop("webhooks")
            prediction_id = post(service, known.url)
            ids.append(prediction_id)
            wait_until(
                lambda item=prediction_id: store.run(commands.get(item)).status.is_terminal,
                seconds=END_SECONDS,
                every=0.002,
            )
            if is_begun:
                time.sleep(choice.uniform(0.0, 0.03))
            killed_at = time.monotonic()
            for name in choice.choice(targets[:2]) if is_begun else targets[n % len(targets)]:
                service.kill(name)
                service.start(name)
            service.cont("webhooks")
            service.wait_ready()
            if not is_begun:
                wait_until(lambda item=prediction_id: item in received(), seconds=END_SECONDS)
                recovery.append(time.monotonic() - killed_at)
        found = Sent([known], ids).settled(service, "delivered")
        times = received()
        webhook_ids = {(json.loads(body)["id"], headers["webhook-id"]) for headers, body in known.received}
        told = {json.loads(body)["id"]: json.loads(body)["status"] for _, body in known.received}
    lost = sum(not times[prediction_id] for prediction_id in ids)
    doubled = len(webhook_ids) - len(times)
    stuck = sum(item["state"] != "delivered" for item in found)
    name = "API or webhook worker killed between a result and its webhook"
    report.add(name, count, lost=lost, doubled=doubled, stuck=stuck, recovery=recovery)
    assert (lost, doubled, stuck) == (0, 0, 0), found
    assert set(told.values()) == {"succeeded"}
    assert {item["id"] for item in found} == {webhook_id for _, webhook_id in webhook_ids}
    again = sum(times.values()) - len(times)
    assert again <= sum(len(item["attempts"]) > 1 for item in found)
