"""Whose turn it is, what a tenant may have waiting and running, deadlines: in a real Redis-protocol server."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest

from predictions.estimates import forecast, throughput
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.record import commands
from predictions.record.commands import DEADLINE_PASSED, Created
from predictions.record.prediction import NewPrediction, Prediction, Progress, new_id
from predictions.record.schema import Keys, Outcome, Status
from predictions.record.store import PredictionStore
from predictions.tenants import Limits, Tenant

QUEUE, OTHER = "generation:a/a", "generation:b/b"
LEASE = 30.0
NO_LIMITS = Limits()


def create(
    store: PredictionStore,
    prediction_id: str,
    owner: str = "ann",
    *,
    seconds: int = 10,
    weight: float = 1.0,
    limits: Limits = NO_LIMITS,
    queue: str = QUEUE,
    priority: int = 0,
    cancel_after: float | None = None,
    max_queued: int = 10_000,
) -> Created:
    new = NewPrediction(
        id=prediction_id,
        owner=owner,
        digest="d",
        input={"prompt": "piano", "duration": seconds},
        model="a/a",
        version="v",
        queue=queue,
        base_url="http://host",
        priority=priority,
        cancel_after=cancel_after,
    )
    tenant = Tenant(owner, owner, weight=weight, limits=limits)
    return store.run(commands.create(new, tenant=tenant, remember_seconds=60, max_queued=max_queued))


def get(store: PredictionStore, prediction_id: str) -> Prediction:
    return store.run(commands.get(prediction_id))


def take(store: PredictionStore, queue: str = QUEUE) -> Prediction | None:
    return store.run(commands.take(queue, new_id(), LEASE))


def takes(store: PredictionStore, count: int = 1000, queue: str = QUEUE) -> list[str]:
    """The ids that are taken one after the other; none of them ends."""
    taken = (take(store, queue) for _ in range(count))
    return [item.id for item in iter(lambda: next(taken, None), None)]


def succeed(store: PredictionStore, prediction: Prediction) -> bool:
    done = Progress(1, 1)
    token = prediction.lease_token
    return store.run(commands.succeed(prediction.id, token, output_key="k", metrics={}, logs="", progress=done))


def lose_lease(store: PredictionStore, prediction_id: str) -> None:
    """What happens when a worker dies with it."""
    store.redis.zadd(Keys.leases(), {prediction_id: 1.0})
    store.run(commands.reap(1000))


def everything(store: PredictionStore) -> dict[str, bytes]:
    """All that Redis holds."""
    return {key: store.redis.dump(key) for key in store.redis.keys("*")}


@pytest.mark.parametrize("seconds", [(10, 10, 10), (30, 8, 3)])
def test_service_is_shared_by_weight_within_one_prediction(
    store: PredictionStore, seconds: tuple[int, int, int]
) -> None:
    weights = {"ann": 1.0, "bob": 2.0, "cid": 4.5}
    asked = dict(zip(weights, seconds, strict=True))
    for n in range(200):
        for owner, weight in weights.items():
            create(store, f"{owner}-{n}", owner, seconds=asked[owner], weight=weight)
    served: Counter[str] = Counter()
    for prediction_id in takes(store, 100):
        owner = prediction_id.partition("-")[0]
        served[owner] += asked[owner]
        shares = {owner: served[owner] / weight for owner, weight in weights.items()}
        ahead, behind = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
        # Nobody is ahead of anybody by more than one prediction of either.
        bound = asked[ahead] / weights[ahead] + asked[behind] / weights[behind]
        assert shares[ahead] - shares[behind] <= bound + 1e-9


def test_a_late_comer_is_next_and_then_has_its_share(store: PredictionStore) -> None:
    for n in range(50):
        create(store, f"ann-{n:02}")
    takes(store, 20)
    for n in range(10):
        created = create(store, f"bob-{n}", "bob")
        assert created.prediction is not None
        assert created.prediction.queue_position == 2 * n
    assert [name[:3] for name in takes(store, 20)] == ["bob", "ann"] * 10


def test_idleness_saves_no_credit(store: PredictionStore) -> None:
    create(store, "bob-early", "bob")
    for n in range(60):
        create(store, f"ann-{n:02}")
    taken = takes(store, 40)
    assert "bob-early" in taken[:2]
    for n in range(30):
        create(store, f"bob-{n:02}", "bob")
    assert Counter(name[:3] for name in takes(store, 20)) == {"ann": 10, "bob": 10}


def test_leaving_and_coming_back_is_no_way_to_more(store: PredictionStore) -> None:
    """A tenant that cancels what waits, and posts it again, goes on where it was."""
    for n in range(20):
        create(store, f"ann-{n:02}")
    create(store, "bob-long", "bob", seconds=30)
    assert "bob-long" in takes(store, 2)
    create(store, "bob-cancelled", "bob")
    store.run(commands.cancel("bob-cancelled"))
    create(store, "bob-again", "bob")
    assert takes(store, 4).index("bob-again") >= 2


def test_priority_decides_inside_a_tenant_and_age_among_equals(store: PredictionStore) -> None:
    for name, priority in (("b-low", -10), ("a-old", 0), ("c-high", 10), ("b-new", 0), ("d-high", 10)):
        create(store, name, priority=priority)
    create(store, "bob", "bob")
    assert get(store, "d-high").queue_position == 2
    # Ties go to the tenant whose name comes first.
    assert takes(store) == ["c-high", "bob", "d-high", "a-old", "b-new", "b-low"]


def test_whoever_runs_as_many_as_may_is_passed_over_in_all_queues(store: PredictionStore) -> None:
    limits = Limits(running=2)
    for n in range(3):
        create(store, f"ann-{n}", limits=limits)
        create(store, f"ann-other-{n}", limits=limits, queue=OTHER)
    create(store, "bob", "bob", queue=OTHER)
    first = take(store)
    assert first is not None
    assert first.id == "ann-0"
    assert takes(store, 3, OTHER) == ["ann-other-0", "bob"]
    assert takes(store) == []
    assert succeed(store, first)
    assert takes(store, 3, OTHER) == ["ann-other-1"]
    assert takes(store) == []
    store.run(commands.cancel("ann-other-1"))
    assert takes(store) == ["ann-1"]
    assert takes(store, 3, OTHER) == []


def test_the_newest_limit_holds(store: PredictionStore) -> None:
    for n in range(3):
        create(store, f"ann-{n}", limits=Limits(running=1))
    assert takes(store) == ["ann-0"]
    create(store, "ann-3", limits=Limits(running=2))
    assert takes(store) == ["ann-1"]
    create(store, "ann-4")
    assert takes(store) == ["ann-2", "ann-3", "ann-4"]


def test_a_limit_that_is_raised_helps_a_tenant_that_has_too_much_waiting(store: PredictionStore) -> None:
    create(store, "ann-0", limits=Limits(running=0, waiting=1))
    assert takes(store) == []
    assert create(store, "ann-1", limits=Limits(running=1, waiting=1)).outcome is Outcome.TENANT_FULL
    assert takes(store) == ["ann-0"]


def test_what_comes_back_is_next_is_charged_once_and_keeps_its_slot(store: PredictionStore) -> None:
    limits = Limits(running=1)
    for n in range(4):
        create(store, f"ann-{n}", limits=limits)
        create(store, f"bob-{n}", "bob")
    assert takes(store, 2) == ["ann-0", "bob-0"]
    lose_lease(store, "ann-0")
    assert (get(store, "ann-0").queue_position, get(store, "bob-1").queue_position) == (0, 1)
    again = take(store)
    assert again is not None
    assert (again.id, again.attempt) == ("ann-0", 2)
    assert succeed(store, again)
    # One prediction each so far: it is ann's turn, as it would have been without the death.
    assert takes(store, 2) == ["ann-1", "bob-1"]


def test_what_waits_again_counts_as_running_until_it_is_cancelled(store: PredictionStore) -> None:
    for n in range(2):
        create(store, f"ann-{n}", limits=Limits(running=1))
    assert takes(store) == ["ann-0"]
    lose_lease(store, "ann-0")
    store.run(commands.cancel("ann-0"))
    assert takes(store) == ["ann-1"]


def test_a_take_that_is_repeated_is_one_turn(store: PredictionStore) -> None:
    for n in range(3):
        create(store, f"ann-{n}", limits=Limits(running=2))
        create(store, f"bob-{n}", "bob")
    command = commands.take(QUEUE, "token", LEASE)
    taken, before = store.run(command), everything(store)
    assert store.run(command) == taken
    assert everything(store) == before
    assert takes(store, 3) == ["bob-0", "ann-1", "bob-1"]


def test_an_end_that_is_repeated_frees_one_slot(store: PredictionStore) -> None:
    for n in range(5):
        create(store, f"ann-{n}", limits=Limits(running=2))
    first, second = take(store), take(store)
    assert first is not None
    assert second is not None
    for _ in range(2):
        assert succeed(store, first)
        store.run(commands.cancel(first.id))
    assert takes(store) == ["ann-2"]


def test_cancelled_before_its_turn_costs_nothing_and_after_it_everything(store: PredictionStore) -> None:
    for n in range(4):
        create(store, f"ann-{n}")
        create(store, f"bob-{n}", "bob")
    store.run(commands.cancel("ann-0"))
    assert takes(store, 1) == ["ann-1"]
    store.run(commands.cancel("ann-1"))
    assert takes(store, 3) == ["bob-0", "ann-2", "bob-1"]


@pytest.mark.parametrize("ended", [False, True])
def test_nothing_is_left_of_a_queue_whose_predictions_are_gone(store: PredictionStore, ended: bool) -> None:
    for n in range(3):
        create(store, f"ann-{n}", limits=Limits(running=5), cancel_after=100)
    if ended:
        takes(store, 2)
        lose_lease(store, "ann-0")
    for n in range(3):
        store.run(commands.cancel(f"ann-{n}"))
        assert store.run(commands.delete(f"ann-{n}"))
    left = {str(key) for key in store.redis.keys("musicgen:*") if "chosen" not in key}
    known = {Keys.queues(), Keys.tenant("ann")} | ({Keys.served(QUEUE), Keys.virtual_time(QUEUE)} if ended else set())
    assert left == known
    assert takes(store) == []


def test_no_more_wait_than_a_tenant_may_have_waiting(store: PredictionStore) -> None:
    limits = Limits(waiting=3)
    for n, queue in enumerate((QUEUE, OTHER, QUEUE)):
        assert create(store, f"ann-{n}", limits=limits, queue=queue).outcome is Outcome.CREATED
    before = everything(store)
    for _ in range(2):
        assert create(store, "ann-3", limits=limits, queue=OTHER) == Created(Outcome.TENANT_FULL, None)
    assert everything(store) == before
    assert create(store, "ann-0", limits=limits).outcome is Outcome.REPLAYED
    assert create(store, "bob-0", "bob", limits=limits).outcome is Outcome.CREATED
    takes(store, 1)
    assert create(store, "ann-3", limits=limits).outcome is Outcome.CREATED


def test_no_more_music_a_day_than_a_tenant_may_have(store: PredictionStore) -> None:
    limits = Limits(seconds_a_day=100)
    for n in range(9):
        assert create(store, f"ann-{n}", limits=limits).outcome is Outcome.CREATED
    before = everything(store)
    refused = create(store, "ann-9", limits=limits, seconds=11)
    assert (refused.outcome, refused.prediction) == (Outcome.USED_UP, None)
    assert 23 * 3600 <= refused.retry_after <= 24 * 3600
    assert everything(store) == before
    assert create(store, "ann-8", limits=limits).outcome is Outcome.REPLAYED
    assert create(store, "ann-9", limits=limits).outcome is Outcome.CREATED
    store.run(commands.cancel("ann-9"))
    assert create(store, "ann-10", limits=limits, seconds=1).outcome is Outcome.USED_UP, "what is accepted is counted"
    assert create(store, "bob-0", "bob", limits=limits).outcome is Outcome.CREATED


def test_a_tenant_is_told_when_enough_of_its_day_is_over(store: PredictionStore) -> None:
    hour = int(time.time() // 3600)
    past = {hour - 24: 500, hour - 23: 40, hour - 20: 30, hour - 1: 30}
    store.redis.hset(Keys.accepted("ann"), mapping={str(at): seconds for at, seconds in past.items()})
    limits = Limits(seconds_a_day=100)
    for seconds, first in ((30, 23), (60, 20), (90, 1)):
        refused = create(store, "ann-0", seconds=seconds, limits=limits)
        wanted = (hour - first + 24) * 3600 - time.time()
        assert refused.retry_after == pytest.approx(wanted, abs=5)
    store.redis.hdel(Keys.accepted("ann"), str(hour - 23))
    assert create(store, "ann-0", seconds=30, limits=limits).outcome is Outcome.CREATED
    assert str(hour - 24) not in store.redis.hgetall(Keys.accepted("ann"))
    assert 0 < store.redis.ttl(Keys.accepted("ann")) <= 24 * 3600


def test_a_full_queue_uses_up_nothing_of_a_day(store: PredictionStore) -> None:
    limits = Limits(seconds_a_day=15)
    create(store, "bob-0", "bob")
    assert create(store, "ann-0", limits=limits, max_queued=1).outcome is Outcome.FULL
    assert create(store, "ann-0", limits=limits).outcome is Outcome.CREATED


@pytest.mark.parametrize("running", [False, True])
def test_at_its_deadline_it_is_cancelled_wherever_it_is(store: PredictionStore, running: bool) -> None:
    create(store, "ann-0", cancel_after=100)
    create(store, "ann-1", cancel_after=100)
    taken = take(store) if running else None
    assert store.run(commands.cancel_overdue()) == 0
    store.redis.zadd(Keys.deadlines(), {"ann-0": 1.0})
    assert store.run(commands.cancel_overdue()) == 1
    assert store.run(commands.cancel_overdue()) == 0
    ended = get(store, "ann-0")
    assert (ended.status, ended.error) == (Status.CANCELED, DEADLINE_PASSED)
    assert not (taken and succeed(store, taken))
    assert takes(store) == ["ann-1"]


def test_what_is_past_its_deadline_is_not_taken_though_nobody_keeps_house(store: PredictionStore) -> None:
    for n in range(4):
        create(store, f"ann-{n}", cancel_after=100)
    store.redis.zadd(Keys.deadlines(), {f"ann-{n}": 1.0 for n in range(3)})
    # One at a time is put right here, and the next one is late as well.
    assert store.run(commands.take(QUEUE, "t", LEASE, limit=1)) is None
    assert takes(store) == ["ann-3"]
    assert [get(store, f"ann-{n}").status for n in range(3)] == [Status.CANCELED] * 3


def test_what_has_ended_has_no_deadline_any_more(store: PredictionStore) -> None:
    create(store, "ann-0", cancel_after=100)
    taken = take(store)
    assert taken is not None
    assert succeed(store, taken)
    assert not store.redis.exists(Keys.deadlines())


def as_an_earlier_version_wrote_them(store: PredictionStore, *ids: str) -> None:
    """Have predictions wait as before there were tenants."""
    waiting = {prediction_id: get(store, prediction_id).created_at.timestamp() for prediction_id in ids}
    for family in ("waiting", "tenant-waiting", "tenant-queues", "turns"):
        for key in store.redis.keys(f"musicgen:{family}:*"):
            store.redis.delete(key)
    store.redis.zadd(Keys.queued(QUEUE), waiting)


def test_what_waits_since_an_earlier_version_is_taken(store: PredictionStore) -> None:
    for n in range(6):
        create(store, f"ann-{n}")
    create(store, "bob-0", "bob")
    takes(store, 1)
    lose_lease(store, "ann-0")
    store.redis.delete(Keys.returned(QUEUE), Keys.tenant_running("ann"))
    names = ["ann-0", *(f"ann-{n}" for n in range(1, 6)), "bob-0"]
    as_an_earlier_version_wrote_them(store, *names)
    assert get(store, "ann-5").queue_position is None
    store.run(commands.cancel("ann-5"))
    store.run(commands.reap(3, limit=2))
    assert get(store, "ann-1").queue_position == 1
    assert takes(store, 1) == ["ann-0"]
    assert store.run(announcements.deployment())[QUEUE].queued == 5
    assert takes(store) == ["bob-0", "ann-1", "ann-2", "ann-3", "ann-4"]
    assert not store.redis.exists(Keys.queued(QUEUE))


def test_what_an_earlier_version_has_ended_blocks_nobody(store: PredictionStore) -> None:
    for n in range(4):
        create(store, f"ann-{n}")
    store.redis.hset(Keys.prediction("ann-0"), "status", Status.CANCELED)
    store.redis.delete(Keys.prediction("ann-1"))
    assert takes(store) == ["ann-2", "ann-3"]
    assert store.run(announcements.deployment())[QUEUE].queued == 0


@dataclass
class Waiting:
    id: str
    owner: str
    seconds: int
    priority: int
    number: int


@dataclass
class Model:
    """The order of one queue as it should be, in a few lines of Python."""

    weights: dict[str, float]
    limits: dict[str, int | None]
    running: dict[str, set[str]]
    """By owner, in all queues."""
    virtual_time: float = 0.0
    served: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    waiting: dict[str, Waiting] = field(default_factory=dict)
    returned: dict[str, Waiting] = field(default_factory=dict)

    def order(self, *, limited: bool = False) -> list[str]:
        """What is taken, one after the other."""
        line: dict[str, list[Waiting]] = defaultdict(list)
        for item in sorted(self.waiting.values(), key=lambda item: (-item.priority, item.number)):
            line[item.owner].append(item)
        if limited:
            line = {owner: items for owner, items in line.items() if self.may_start(owner)}
        times = {owner: max(self.virtual_time, self.served[owner]) for owner in line}
        found = [item.id for item in sorted(self.returned.values(), key=lambda item: item.number)]
        while line:
            owner = min(line, key=lambda owner: (times[owner], owner))
            item = line[owner].pop(0)
            times[owner] += item.seconds / self.weights[owner]
            found.append(item.id)
            if not line[owner]:
                del line[owner]
        return found

    def may_start(self, owner: str) -> bool:
        limit = self.limits[owner]
        return limit is None or len(self.running[owner]) < limit

    def take(self) -> Waiting | None:
        following = self.order(limited=True)
        if not following:
            return None
        if following[0] in self.returned:
            return self.returned.pop(following[0])
        item = self.waiting.pop(following[0])
        self.virtual_time = max(self.virtual_time, self.served[item.owner])
        self.served[item.owner] = self.virtual_time + item.seconds / self.weights[item.owner]
        self.running[item.owner].add(item.id)
        return item


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_order_is_that_of_a_small_model(store: PredictionStore, seed: int, limited: bool) -> None:
    choice = random.Random(seed)
    owners = ["ann", "bob", "cid", "dan"]
    weights = {owner: choice.choice([0.5, 1.0, 3.0]) for owner in owners}
    limits = {owner: choice.choice([None, 1, 2]) if limited else None for owner in owners}
    running: dict[str, set[str]] = {owner: set() for owner in owners}
    models = {queue: Model(weights, limits, running) for queue in (QUEUE, OTHER)}
    held: dict[str, tuple[str, Prediction, Waiting]] = {}

    def end(prediction_id: str) -> None:
        queue, _, item = held.pop(prediction_id)
        models[queue].returned.pop(prediction_id, None)
        running[item.owner].discard(prediction_id)

    for number in range(400):
        queue = choice.choice([QUEUE, OTHER])
        model = models[queue]
        match choice.choices(["create", "take", "succeed", "cancel", "die"], [8, 6, 3, 1, 1])[0]:
            case "create":
                item = Waiting(
                    f"p{number}", choice.choice(owners), choice.randint(1, 30), choice.choice([0, 0, 0, 5]), number
                )
                model.waiting[item.id] = item
                created = create(
                    store,
                    item.id,
                    item.owner,
                    seconds=item.seconds,
                    weight=weights[item.owner],
                    limits=Limits(running=limits[item.owner]),
                    queue=queue,
                    priority=item.priority,
                )
                assert created.prediction is not None
                if not limited:
                    assert created.prediction.queue_position == model.order().index(item.id)
            case "take":
                expected, taken = model.take(), take(store, queue)
                assert (taken and taken.id) == (expected and expected.id)
                if taken and expected:
                    held[taken.id] = queue, taken, expected
            case "succeed" if held:
                prediction_id = choice.choice(sorted(held))
                assert succeed(store, held[prediction_id][1])
                end(prediction_id)
            case "cancel":
                known = sorted([*held, *models[QUEUE].waiting, *models[OTHER].waiting])
                if known:
                    prediction_id = choice.choice(known)
                    assert store.run(commands.cancel(prediction_id))
                    if prediction_id in held:
                        end(prediction_id)
                    for each in models.values():
                        each.waiting.pop(prediction_id, None)
            case "die" if held:
                prediction_id = choice.choice(sorted(held))
                at, _, item = held[prediction_id]
                lose_lease(store, prediction_id)
                models[at].returned[prediction_id] = item
        if number % 20 == 0 and not limited:
            for at, each in models.items():
                assert [get(store, name).queue_position for name in each.order()] == [*range(len(each.order()))]
                assert store.run(announcements.deployment()).get(at, announcements.QueueState()).queued == len(
                    each.order()
                )
    if not limited:
        for at, each in models.items():
            assert takes(store, queue=at) == each.order()


def test_far_behind_a_place_is_reckoned_from_what_is_before(store: PredictionStore) -> None:
    """More tenants, and more predictions of each, than are looked at; of lengths that repeat: within two of each."""
    for n in range(30):
        for owner in range(12):
            create(store, f"{owner:02}-{n:02}", f"t{owner:02}", seconds=5 + 5 * ((n + owner) % 3))
    asked = [f"{owner:02}-{n:02}" for owner in (0, 5, 11) for n in (0, 10, 15, 16, 29)]
    places = {name: get(store, name).queue_position for name in asked}
    order = takes(store)
    assert len(order) == 12 * 30
    for name, place in places.items():
        assert place == pytest.approx(order.index(name), rel=0.1, abs=24)


def test_estimates_follow_the_turns(store: PredictionStore) -> None:
    card = Announcement(
        name="a/a", version="v", melody=True, channels=1, sample_rate=32000, max_duration=30, concurrency=1
    )
    store.run(announcements.announce("worker", card, 60.0, queue=QUEUE))
    store.run(throughput.measured_steps(QUEUE, "v", together=1, step_seconds=0.01))
    store.run(throughput.measured_other(QUEUE, "v", seconds=0.1, diffusion=False))
    for n in range(100):
        create(store, f"ann-{n:02}")
    for n in range(5):
        create(store, f"bob-{n}", "bob")
    found = store.run(forecast.forecast_queue(QUEUE))
    starts = [found.of(get(store, name)) for name in ("ann-00", "bob-0", "ann-01", "bob-1", "ann-50", "ann-99")]
    seconds = [estimate.start_seconds for estimate in starts if estimate]
    assert len(seconds) == 6
    assert seconds == sorted(seconds)
    assert found.read_at == pytest.approx(time.time(), abs=60)
