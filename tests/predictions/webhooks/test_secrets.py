"""Each owner has webhook secrets of its own, and changes them by itself."""

from __future__ import annotations

import pytest

from predictions.record.schema import Keys
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.token_file import ANYONE, digest, plain_tenant
from predictions.webhooks.secrets import OVERLAP_SECONDS, SecretState, rotate_secret, secret_state
from predictions.webhooks.signing import SigningKeys, derived_key, operators_keys
from tests.conftest import SECRET

PLAIN = plain_tenant(digest("a-token-of-ann")).owner
TENANT = "tenant-of-the-file"
KEYS = SigningKeys(Settings(secret=SECRET))
OPERATORS = derived_key(SECRET)


def let_time_pass(store: PredictionStore, seconds: float, owner: str = TENANT) -> None:
    key = Keys.webhook_secret(owner)
    rotated_at = store.redis.hget(key, "rotated_at")
    assert rotated_at is not None
    store.redis.hset(key, "rotated_at", str(float(rotated_at) - seconds))


def test_each_owner_and_each_number_has_another_key() -> None:
    owners = (TENANT, "tenant-another", PLAIN, ANYONE)
    keys = [KEYS.current(owner, SecretState(number, number)) for owner in owners for number in (0, 1, 2)]
    assert len(set(keys)) == len(keys)
    # Nothing follows for one owner from what another one has, or from the key that was everybody's once.
    for known in (KEYS.current(TENANT), OPERATORS):
        assert SigningKeys(Settings(webhook_secrets=known)).current(PLAIN) not in keys


def test_nobody_else_signs_for_a_tenant_of_the_file() -> None:
    assert KEYS.of(TENANT) == (KEYS.current(TENANT),)
    assert OPERATORS not in KEYS.of(TENANT)


def test_without_tokens_the_operators_keys_sign_until_they_are_rotated() -> None:
    assert KEYS.of(ANYONE) == (OPERATORS,)
    assert KEYS.of(ANYONE, SecretState(1, 0))[1:] == (OPERATORS,)
    assert OPERATORS not in KEYS.of(ANYONE, SecretState(1, 1))


def test_receivers_of_a_plain_token_that_know_the_operators_key_are_served_until_it_is_rotated() -> None:
    assert KEYS.of(PLAIN) == (KEYS.current(PLAIN), OPERATORS)
    assert KEYS.current(PLAIN) != OPERATORS
    assert OPERATORS in KEYS.of(PLAIN, SecretState(1, 0))
    assert OPERATORS not in KEYS.of(PLAIN, SecretState(1, 1))


def test_while_the_operator_changes_keys_both_sign() -> None:
    old, new = OPERATORS, derived_key("another secret")
    rotating, before = Settings(webhook_secrets=f"{new},{old}"), Settings(webhook_secrets=old)
    assert operators_keys(rotating) == SigningKeys(rotating).of(ANYONE) == (new, old)
    keys = SigningKeys(rotating).of(TENANT)
    assert keys[1:] == SigningKeys(before).of(TENANT)
    assert len(set(keys)) == 2
    # With a secret of the service, the operator's keys are nothing to a tenant.
    assert SigningKeys(Settings(secret=SECRET, webhook_secrets=new)).of(TENANT) == KEYS.of(TENANT)


def test_a_rotated_secret_signs_for_a_day_longer(store: PredictionStore) -> None:
    assert store.run(secret_state(TENANT)) == SecretState()
    store.run(rotate_secret(TENANT, "t"))
    state = store.run(secret_state(TENANT))
    assert (state.current, state.oldest) == (1, 0)
    assert state.old_ones_until is not None
    assert store.run(secret_state("tenant-another")) == SecretState()
    let_time_pass(store, OVERLAP_SECONDS)
    assert store.run(secret_state(TENANT)) == SecretState(1, 1)
    store.run(rotate_secret(TENANT, "u"))
    state = store.run(secret_state(TENANT))
    assert (state.current, state.oldest) == (2, 1)


@pytest.mark.parametrize("rotations", [2, 5])
def test_rotated_often_the_last_three_sign(store: PredictionStore, rotations: int) -> None:
    for number in range(rotations):
        store.run(rotate_secret(TENANT, f"t{number}"))
    state = store.run(secret_state(TENANT))
    assert (state.current, state.oldest) == (rotations, rotations - 2)


def test_a_repeated_rotation_is_one(store: PredictionStore) -> None:
    assert [store.run(rotate_secret(TENANT, "t")) for _ in range(3)] == [True] * 3
    assert store.run(secret_state(TENANT)).current == 1


def test_no_secret_is_stored(store: PredictionStore) -> None:
    store.run(rotate_secret(TENANT, "t"))
    kept = store.redis.hgetall(Keys.webhook_secret(TENANT))
    assert set(kept) == {"generation", "oldest", "rotated_at"}
