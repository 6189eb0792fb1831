"""Webhooks sent to a real receiver: signatures, schedule, redirects, addresses, a worker that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Verifier

from predictions.record import commands
from predictions.record.prediction import Progress, Webhook
from predictions.record.schema import DeliveryState, Kind, WebhookEvent
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from predictions.token_file import ANYONE
from predictions.webhooks import deliveries
from predictions.webhooks.deliveries import Delivery
from predictions.webhooks.secrets import rotate_secret
from predictions.webhooks.signing import SigningKeys, derived_key
from tests.conftest import SECRET
from tests.predictions.record.test_store import LEASE, create, succeed
from tests.predictions.webhooks.test_deliveries import let_time_pass, log
from tests.records import claim
from tests.servers import wait_until
from tests.webhook_receiver import HANG, Receiver, receiver
from tests.worker.network.servers import resolver
from worker.dispatcher import Dispatcher
from worker.webhooks import PLACES, WebhookSender

START, OUTPUT, LOGS, COMPLETED = WebhookEvent
NEW_KEY = "whsec_" + "QUJD" * 12
OWNER = "ann"
"""Of all predictions here."""


@pytest.fixture
def sender(store: PredictionStore, settings: Settings) -> WebhookSender:
    return sender_for(store, settings)


def sender_for(store: PredictionStore, settings: Settings) -> WebhookSender:
    return WebhookSender(store, open_storage(settings), settings)


def deliver(sender: WebhookSender) -> None:
    """Make one attempt, if one is due."""
    if (attempt := sender.take()) is not None:
        attempt()


def claimed(store: PredictionStore, url: str, *events: WebhookEvent) -> str:
    """Create a prediction that a worker has taken; returns the lease's token."""
    create(store, webhook=Webhook(url, events or (START,)))
    return claim(store, "one", LEASE)


def delivery(store: PredictionStore, name: str = "one-start") -> Delivery:
    [found] = [item for item in store.run(deliveries.of("one")) if item.id == name]
    return found


def seconds_to_next(store: PredictionStore) -> float:
    found = delivery(store)
    assert found.next_attempt_at is not None
    return (found.next_attempt_at - found.attempts[-1].started_at).total_seconds()


def verified_bodies(hook: Receiver) -> dict[str, dict[str, object]]:
    """The bodies by webhook-id, each verified by the specification's own library."""
    key = SigningKeys(Settings(secret=SECRET)).current(OWNER)
    return {h["webhook-id"]: Verifier(key).verify(body, h) for h, body in hook.received}


def test_each_event_has_its_own_body(store: PredictionStore, sender: WebhookSender) -> None:
    with receiver() as hook:
        attempt = claimed(store, hook.url, *WebhookEvent)
        deliver(sender)
        log(store, attempt, "Using seed 1\n")
        deliver(sender)
        succeed(store, attempt)
        deliver(sender)
        deliver(sender)
        bodies = verified_bodies(hook)
        # The start again, after the end: its body does not announce the end a second time.
        store.run(deliveries.redeliver("one", "one-start"))
        deliver(sender)
    assert [body["status"] for body in bodies.values()] == ["processing", "processing", "succeeded", "processing"]
    assert [body["logs"] for body in bodies.values()] == ["", "Using seed 1\n", "l", "l"]
    assert [bool(body["output"]) for body in bodies.values()] == [False, False, True, True]
    assert json.loads(hook.received[-1][1]) == bodies["one-start"]
    assert hook.ids()[-1] == "one-start"


def test_a_trainings_webhook_shows_the_training(store: PredictionStore, sender: WebhookSender) -> None:
    with receiver() as hook:
        create(store, webhook=Webhook(hook.url, (COMPLETED,)), kind=Kind.TRAINING)
        found = {"pieces": 1, "seconds": 6.0, "dropped": 0, "table": []}
        store.redis.hset("musicgen:prediction:one", "input", json.dumps({"inspect": True}))
        token = claim(store, "one", LEASE)
        store.run(commands.succeed("one", token, output=found, metrics={}, logs="", progress=Progress(1, 1)))
        deliver(sender)
        [body] = verified_bodies(hook).values()
    assert (body["status"], body["output"], body["source"]) == ("succeeded", found, "api")
    assert body["urls"] == {"get": "http://host/trainings/one", "cancel": "http://host/trainings/one/cancel"}


def test_while_secrets_are_rotated_both_verify(store: PredictionStore, settings: Settings) -> None:
    rotating = Settings(**{**settings.model_dump(), "webhook_secrets": f"{NEW_KEY},{derived_key(SECRET)}"})
    with receiver() as hook:
        create(store, webhook=Webhook(hook.url, (START,)), owner=ANYONE)
        claim(store, "one", LEASE)
        deliver(sender_for(store, rotating))
    [(headers, body)] = hook.received
    for key in (NEW_KEY, derived_key(SECRET)):
        assert Verifier(key).verify(body, headers)["id"] == "one"


def test_an_owner_that_rotates_its_secret_is_sent_both_signatures(store: PredictionStore, settings: Settings) -> None:
    before = SigningKeys(settings).current(OWNER)
    with receiver() as hook:
        claimed(store, hook.url)
        store.run(rotate_secret(OWNER, "token"))
        deliver(sender_for(store, settings))
    [(headers, body)] = hook.received
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert Verifier(before).verify(body, headers)["id"] == "one"


def test_a_day_of_failures_is_ten_retries_under_one_id(store: PredictionStore, sender: WebhookSender) -> None:
    with receiver(*[500] * 11) as hook:
        claimed(store, hook.url)
        waits = []
        for _ in range(10):
            deliver(sender)
            waits.append(seconds_to_next(store))
            let_time_pass(store, waits[-1] + 1)
        deliver(sender)
        assert delivery(store).state is DeliveryState.FAILED
        let_time_pass(store, 10 * 86_400)
        deliver(sender)
    assert hook.ids() == ["one-start"] * 11
    # The last two are equally long but for the random part.
    assert waits[:-1] == sorted(waits[:-1])
    assert 19 * 3600 < sum(waits) < 24 * 3600
    assert [attempt.status for attempt in delivery(store).attempts] == [500] * 11


def test_each_attempt_is_signed_with_its_own_time(store: PredictionStore, sender: WebhookSender) -> None:
    with receiver(500) as hook:
        claimed(store, hook.url)
        deliver(sender)
        wait_until(lambda: str(int(store.redis.time()[0])) > hook.received[0][0]["webhook-timestamp"])
        let_time_pass(store, 10)
        deliver(sender)
    first, second = [int(headers["webhook-timestamp"]) for headers, _ in hook.received]
    assert second > first
    assert verified_bodies(hook)


def test_retry_after_is_honoured(store: PredictionStore, sender: WebhookSender) -> None:
    with receiver((429, {"Retry-After": "900"})) as hook:
        claimed(store, hook.url)
        deliver(sender)
    assert 900 <= seconds_to_next(store) < 930


def test_a_redirect_is_a_failure_and_not_followed(store: PredictionStore, sender: WebhookSender) -> None:
    with receiver() as elsewhere, receiver((302, {"Location": elsewhere.url})) as hook:
        claimed(store, hook.url)
        deliver(sender)
        assert elsewhere.received == []
    found = delivery(store)
    assert (found.state, found.attempts[0].status) == (DeliveryState.PENDING, 302)


def test_after_410_nothing_of_that_prediction_is_sent(store: PredictionStore, sender: WebhookSender) -> None:
    with receiver(410) as hook:
        attempt = claimed(store, hook.url, *WebhookEvent)
        deliver(sender)
        log(store, attempt, "a")
        succeed(store, attempt)
        assert [item.state for item in store.run(deliveries.of("one"))] == [DeliveryState.DISABLED]
        deliver(sender)
        assert hook.ids() == ["one-start"]


def test_a_receiver_that_is_not_there_is_tried_again(store: PredictionStore, sender: WebhookSender) -> None:
    with receiver() as hook:
        url = hook.url
    claimed(store, url)
    deliver(sender)
    found = delivery(store)
    assert (found.state, found.attempts[0].status) == (DeliveryState.PENDING, None)
    assert "cannot be read" in (found.attempts[0].error or "")


def test_addresses_are_checked_at_each_attempt(
    store: PredictionStore, sender: WebhookSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of the tests allow 127.0.0.0/8 and nothing else that is private."""
    with receiver(500) as hook, resolver(monkeypatch, ["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1", "169.254.169.254"]):
        claimed(store, hook.url.replace("127.0.0.1", "receiver.example"))
        for _ in range(3):
            deliver(sender)
            let_time_pass(store, 3600)
        assert len(hook.received) == 1
    first, *refused = delivery(store).attempts
    assert first.status == 500
    assert ["may not be reached" in (attempt.error or "") for attempt in refused] == [True, True]


def owe(store: PredictionStore, owner: str, urls: list[str]) -> list[str]:
    """Predictions that a worker has taken, each with a webhook that is due; returns their ids."""
    ids = [f"{owner}-{number}" for number in range(len(urls))]
    for prediction_id, url in zip(ids, urls, strict=True):
        create(store, prediction_id, owner=owner, webhook=Webhook(url, (START,)))
        claim(store, prediction_id, LEASE)
    return ids


def attempts(store: PredictionStore, prediction_id: str) -> int:
    [found] = store.run(deliveries.of(prediction_id))
    return len(found.attempts)


def is_delivered(store: PredictionStore, prediction_id: str) -> bool:
    return store.run(deliveries.of(prediction_id))[0].state is DeliveryState.DELIVERED


@contextmanager
def sending(sender: WebhookSender) -> Iterator[None]:
    dispatcher = Dispatcher(sender.take, PLACES.total)
    dispatcher.start()
    try:
        yield
    finally:
        dispatcher.close()


def test_a_receiver_that_hangs_keeps_nobody_waiting(store: PredictionStore, sender: WebhookSender) -> None:
    with sending(sender), receiver(*[HANG] * 1000) as slow, receiver() as fast:
        anns = owe(store, "ann", [slow.url] * 70 + [fast.url])
        bobs = owe(store, "bob", [fast.url])
        wait_until(lambda: is_delivered(store, bobs[0]) and is_delivered(store, anns[-1]))
        tried = [prediction_id for prediction_id in anns[:-1] if attempts(store, prediction_id)]
        assert len(slow.received) >= PLACES.each_lane
        # Without a share, bob's would have waited for all of them; in rounds of so many, few have been tried.
        assert len(tried) < 35


def test_an_owner_of_many_receivers_that_hang_keeps_no_other_waiting(
    store: PredictionStore, sender: WebhookSender
) -> None:
    with sending(sender), ExitStack() as running:
        slow = [running.enter_context(receiver(*[HANG] * 100)) for _ in range(12)]
        anns = owe(store, "ann", [hook.url for hook in slow] * 10)
        fast = running.enter_context(receiver())
        bobs = owe(store, "bob", [fast.url] * 10)
        wait_until(lambda: all(is_delivered(store, prediction_id) for prediction_id in bobs))
        assert sum(attempts(store, prediction_id) > 0 for prediction_id in anns) < 60


def test_places_are_free_again_after_attempts(store: PredictionStore, sender: WebhookSender) -> None:
    with sending(sender), receiver(*[500] * 10) as hook:
        ids = owe(store, "ann", [hook.url] * 40)
        wait_until(lambda: all(attempts(store, prediction_id) for prediction_id in ids))


@contextmanager
def worker_process(settings: Settings, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that delivers webhooks, as a deployment runs it."""
    environment = {
        **os.environ,
        "MUSICGEN_REDIS_URL": settings.redis_url,
        "MUSICGEN_DATA_DIR": str(settings.data_dir),
        "MUSICGEN_SECRET": SECRET,
        "MUSICGEN_OUTBOUND_ALLOW": "127.0.0.0/8",
    }
    command = [sys.executable, "-m", "cli.main", "worker", "--queues", "webhooks"]
    with (folder / "log").open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_a_webhook_whose_worker_is_killed_is_delivered_by_the_next(
    store: PredictionStore, settings: Settings, tmp_path: Path
) -> None:
    with receiver(HANG) as hook:
        claimed(store, hook.url)
        with worker_process(settings, tmp_path) as first:
            wait_until(lambda: len(hook.received) == 1, process=first, seconds=60)
            first.kill()
            first.wait()
        assert delivery(store).state is DeliveryState.PENDING
        let_time_pass(store, deliveries.ATTEMPT_LOST_SECONDS)
        with worker_process(settings, tmp_path) as second:
            wait_until(lambda: delivery(store).state is DeliveryState.DELIVERED, process=second, seconds=60)
        assert hook.ids() == ["one-start", "one-start"]
        assert verified_bodies(hook)["one-start"]["status"] == "processing"
    killed, delivered = delivery(store).attempts
    assert (killed.status, killed.error) == (None, None)
    assert delivered.status == 200
