"""Webhook deliveries in a real Redis-protocol server: what is owed, attempts, schedules, what ends them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from predictions.errors import DeliveryNotFound
from predictions.record import commands
from predictions.record.prediction import Webhook, new_id
from predictions.record.schema import DeliveryState, Verdict, WebhookEvent
from predictions.record.store import PredictionStore
from predictions.webhooks import deliveries
from predictions.webhooks.deliveries import Delivery, DueDelivery, StartedAttempt
from predictions.webhooks.schedule import ATTEMPT_LOST_SECONDS, SPACING_SECONDS
from tests.predictions.record.test_store import LEASE, create, messages, succeed
from tests.records import claim

START, OUTPUT, LOGS, COMPLETED = WebhookEvent
HOST = "receiver:80"


def running(store: PredictionStore, *events: WebhookEvent) -> str:
    """A prediction that a worker has claimed and that owes these webhooks."""
    create(store, webhook=Webhook("http://receiver", events))
    return claim(store, "one", LEASE)


def log(store: PredictionStore, token: str, logs: str) -> None:
    assert store.run(commands.renew("one", token, LEASE, logs=logs))


def begin(store: PredictionStore, delivery: str) -> StartedAttempt:
    begun = try_to_begin(store, delivery)
    assert begun is not None
    return begun


def try_to_begin(store: PredictionStore, delivery: str) -> StartedAttempt | None:
    return store.run(deliveries.begin(DueDelivery(delivery, "ann", HOST), new_id()))


def due(store: PredictionStore) -> list[str]:
    return [item.id for item in store.run(deliveries.due())]


def waiting(store: PredictionStore) -> list[str]:
    """The webhook-ids in all lanes. Owners and hosts stand at the time of what is first in their lanes."""
    found = []
    for owner, owner_at in scores(store, "musicgen:webhook-owners"):
        hosts = scores(store, f"musicgen:webhook-hosts:{owner}")
        assert owner_at == hosts[0][1]
        for host, host_at in hosts:
            lane = scores(store, f"musicgen:webhooks:{owner}:{host}")
            assert host_at == lane[0][1]
            found += [name for name, _ in lane]
    assert len(store.redis.keys("musicgen:webhooks:*")) <= len(found)
    return found


def scores(store: PredictionStore, key: str) -> list[tuple[str, float]]:
    return store.redis.zrange(key, 0, -1, withscores=True)


def end(store: PredictionStore, begun: StartedAttempt, verdict: Verdict, status: int, retry: float = 60.0) -> None:
    command = deliveries.end(begun, verdict, status=status, error=None, seconds=0.1, retry_in_seconds=retry)
    assert store.run(command)


def let_time_pass(store: PredictionStore, seconds: float) -> None:
    """Move everything that webhooks were told of time into the past."""
    for name in waiting(store):
        store.redis.hincrbyfloat(f"musicgen:delivery:{name}", "due", -seconds)
    for key in store.redis.keys("musicgen:webhook*-*") + store.redis.keys("musicgen:webhooks:*"):
        for name, _ in scores(store, key):
            store.redis.zincrby(key, -seconds, name)
    for event in ("logs", "output"):
        if store.redis.hexists("musicgen:prediction:one", f"webhook_sent:{event}"):
            store.redis.hincrbyfloat("musicgen:prediction:one", f"webhook_sent:{event}", -seconds)


def listed(store: PredictionStore) -> dict[str, Delivery]:
    return {item.id: item for item in store.run(deliveries.of("one"))}


def states(store: PredictionStore) -> dict[str, str]:
    return {name: item.state.value for name, item in listed(store).items()}


def test_each_event_that_is_wanted_is_owed_with_its_message(store: PredictionStore) -> None:
    attempt = running(store, *WebhookEvent)
    log(store, attempt, "Using seed 1")
    succeed(store, attempt)
    assert list(listed(store)) == ["one-start", "one-logs-1", "one-output-1", "one-completed"]
    assert sorted(messages(store, "webhooks")) == sorted(listed(store))


@pytest.mark.parametrize("event", list(WebhookEvent))
def test_only_the_wanted_events_are_owed(store: PredictionStore, event: WebhookEvent) -> None:
    succeed(store, running(store, event))
    assert {item.event for item in listed(store).values()} == {event}


def test_a_prediction_without_a_webhook_owes_none(store: PredictionStore) -> None:
    create(store)
    succeed(store, claim(store, "one", LEASE))
    assert listed(store) == {}
    assert messages(store, "webhooks") == []


def test_an_attempt_is_begun_by_one_worker_and_written_down(store: PredictionStore) -> None:
    running(store, START)
    begun = begin(store, "one-start")
    assert begun == StartedAttempt("one-start", 1, 1, "one", START)
    assert try_to_begin(store, "one-start") is None
    [during] = listed(store)["one-start"].attempts
    assert (during.number, during.status, during.error, during.seconds) == (1, None, None, None)
    end(store, begun, Verdict.DELIVERED, 204)
    after = listed(store)["one-start"]
    assert (after.state, after.next_attempt_at) == (DeliveryState.DELIVERED, None)
    assert (after.attempts[0].status, after.attempts[0].seconds) == (204, 0.1)
    assert try_to_begin(store, "one-start") is None
    assert waiting(store) == []


def test_a_failed_attempt_falls_due_again_in_time_and_not_before(store: PredictionStore) -> None:
    running(store, START)
    end(store, begin(store, "one-start"), Verdict.RETRY, 500, retry=600.0)
    let_time_pass(store, 590)
    assert due(store) == []
    assert try_to_begin(store, "one-start") is None
    let_time_pass(store, 10)
    assert due(store) == ["one-start"]
    second = begin(store, "one-start")
    assert (second.number, second.tries) == (2, 2)
    end(store, second, Verdict.FAILED, 500)
    assert states(store) == {"one-start": "failed"}
    assert waiting(store) == []


def test_what_a_dead_worker_began_falls_due_again_and_its_late_word_changes_no_schedule(
    store: PredictionStore,
) -> None:
    running(store, START)
    lost = begin(store, "one-start")
    let_time_pass(store, ATTEMPT_LOST_SECONDS)
    assert due(store) == ["one-start"]
    second = begin(store, "one-start")
    assert second.number == 2
    end(store, lost, Verdict.FAILED, 500)
    assert states(store) == {"one-start": "pending"}
    end(store, second, Verdict.DELIVERED, 200)
    assert [attempt.status for attempt in listed(store)["one-start"].attempts] == [500, 200]


def test_a_worker_needs_no_message(store: PredictionStore) -> None:
    running(store, START)
    store.redis.delete("webhooks")
    assert due(store) == ["one-start"]


def test_what_is_due_stands_by_owner_and_host_and_busy_ones_are_passed_over(store: PredictionStore) -> None:
    for n, (owner, host) in enumerate([("ann", "slow"), ("ann", "slow"), ("ann", "fast:8080"), ("bob", "slow")]):
        create(store, f"p{n}", owner=owner, webhook=Webhook(f"http://{host}/hook", (START,)))
        claim(store, f"p{n}", LEASE)

    def due_ids(**given: Any) -> list[str]:
        return [item.id for item in store.run(deliveries.due(**given))]

    assert store.run(deliveries.due(limit=1)) == [DueDelivery("p0-start", "ann", "slow:80")]
    assert due_ids() == ["p0-start", "p1-start", "p2-start", "p3-start"]
    assert due_ids(each_lane=1) == ["p0-start", "p2-start", "p3-start"]
    assert due_ids(owners=["ann"]) == ["p3-start"]
    assert due_ids(hosts=["slow:80"]) == ["p2-start"]
    assert due_ids(lanes=[("ann", "slow:80")]) == ["p2-start", "p3-start"]
    assert due_ids(owners=["ann"], lanes=[("bob", "slow:80")], limit=1) == []


def test_deliveries_of_an_earlier_version_are_found(store: PredictionStore) -> None:
    """They wait in one set for all, and their record names no host."""
    running(store, START)
    store.redis.delete(*store.redis.keys("musicgen:webhook*"))
    store.redis.hdel("musicgen:prediction:one", "webhook_host")
    store.redis.zadd("musicgen:webhooks", {"one-start": 1, "gone-start": 1})
    [found] = store.run(deliveries.due())
    assert found == DueDelivery("one-start", "ann", "")
    assert not store.redis.exists("musicgen:webhooks")
    begun = store.run(deliveries.begin(found, "token"))
    assert begun is not None
    end(store, begun, Verdict.DELIVERED, 200)
    assert waiting(store) == []


def test_an_attempt_whose_beginning_was_not_heard_of_is_begun_once(store: PredictionStore) -> None:
    running(store, START)
    command = deliveries.begin(DueDelivery("one-start", "ann", HOST), "token")
    begun = store.run(command)
    assert begun == StartedAttempt("one-start", 1, 1, "one", START)
    assert store.run(command) == begun
    assert len(listed(store)["one-start"].attempts) == 1
    end(store, begun, Verdict.RETRY, 500)
    let_time_pass(store, 60)
    assert begin(store, "one-start").number == 2


def test_logs_that_have_not_been_sent_yet_are_one_webhook(store: PredictionStore) -> None:
    attempt = running(store, LOGS)
    for n in range(5):
        log(store, attempt, f"{n} of 5")
    assert states(store) == {"one-logs-1": "pending"}
    begun = begin(store, "one-logs-1")
    log(store, attempt, "4 of 5")
    assert list(listed(store)) == ["one-logs-1"], "nothing is new"
    # This may be too late for the body of the first.
    log(store, attempt, "5 of 5")
    assert list(listed(store)) == ["one-logs-1", "one-logs-2"]
    end(store, begun, Verdict.DELIVERED, 200)
    assert states(store) == {"one-logs-1": "delivered", "one-logs-2": "pending"}


def test_logs_are_sent_every_half_second_at_most(store: PredictionStore) -> None:
    attempt = running(store, LOGS)
    log(store, attempt, "a")
    end(store, begin(store, "one-logs-1"), Verdict.DELIVERED, 200)
    [first] = listed(store)["one-logs-1"].attempts
    log(store, attempt, "b")
    assert try_to_begin(store, "one-logs-2") is None
    second = listed(store)["one-logs-2"]
    assert second.attempts == ()
    assert second.next_attempt_at == first.started_at + timedelta(seconds=SPACING_SECONDS)
    let_time_pass(store, SPACING_SECONDS)
    assert due(store) == ["one-logs-2"]
    assert begin(store, "one-logs-2").number == 1


def test_newer_logs_take_the_place_of_older_ones_that_failed(store: PredictionStore) -> None:
    attempt = running(store, LOGS)
    log(store, attempt, "a")
    end(store, begin(store, "one-logs-1"), Verdict.RETRY, 500)
    log(store, attempt, "b")
    assert states(store) == {"one-logs-1": "superseded", "one-logs-2": "pending"}
    let_time_pass(store, 3600)
    assert try_to_begin(store, "one-logs-1") is None


@pytest.mark.parametrize(("wanted", "state"), [((LOGS, COMPLETED), "superseded"), ((LOGS,), "pending")])
def test_the_end_carries_the_last_logs_for_who_wants_it(
    store: PredictionStore, wanted: tuple[WebhookEvent, ...], state: str
) -> None:
    attempt = running(store, *wanted)
    log(store, attempt, "a")
    succeed(store, attempt)
    assert states(store)["one-logs-1"] == state


def test_gone_ends_every_webhook_of_that_prediction_and_of_no_other(store: PredictionStore) -> None:
    attempt = running(store, *WebhookEvent)
    create(store, "two", webhook=Webhook("http://receiver"))
    claim(store, "two", LEASE)
    log(store, attempt, "a")
    end(store, begin(store, "one-start"), Verdict.GONE, 410)
    succeed(store, attempt)
    assert states(store) == {"one-start": "disabled", "one-logs-1": "disabled"}
    assert waiting(store) == ["two-start"]


@pytest.mark.parametrize("verdict", [Verdict.DELIVERED, Verdict.FAILED, Verdict.GONE, Verdict.RETRY])
def test_any_delivery_can_be_sent_again_with_all_its_retries(store: PredictionStore, verdict: Verdict) -> None:
    running(store, START)
    end(store, begin(store, "one-start"), verdict, 299)
    store.redis.delete("webhooks")
    again = store.run(deliveries.redeliver("one", "one-start"))
    assert again.state is DeliveryState.PENDING
    assert messages(store, "webhooks") == ["one-start"]
    assert begin(store, "one-start") == StartedAttempt("one-start", 2, 1, "one", START)
    assert [attempt.number for attempt in listed(store)["one-start"].attempts] == [1, 2]


def test_only_a_predictions_own_deliveries_can_be_sent_again(store: PredictionStore) -> None:
    running(store, START)
    for prediction_id, delivery in [("two", "one-start"), ("one", "one-completed"), ("one", "")]:
        with pytest.raises(DeliveryNotFound):
            store.run(deliveries.redeliver(prediction_id, delivery))


def test_deliveries_are_forgotten_with_their_prediction(store: PredictionStore) -> None:
    attempt = running(store, *WebhookEvent)
    log(store, attempt, "a")
    begun = begin(store, "one-logs-1")
    succeed(store, attempt)
    assert store.run(commands.delete("one"))
    late = deliveries.end(begun, Verdict.RETRY, status=500, error=None, seconds=1.0, retry_in_seconds=5.0)
    assert not store.run(late)
    assert try_to_begin(store, "one-completed") is None
    assert store.redis.keys("musicgen:*:one*") == []
    assert waiting(store) == []
