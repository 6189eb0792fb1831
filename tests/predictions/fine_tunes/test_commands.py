"""Fine-tunes in Redis: whose they are, who sees them, and what they keep."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from predictions.errors import FineTuneExists, FineTuneHasVersions, ModelNotFound, TooManyFineTunes
from predictions.fine_tunes import commands
from predictions.fine_tunes.record import FineTune, Version, Visibility
from predictions.record.prediction import now
from predictions.record.schema import Keys
from predictions.record.store import PredictionStore

FIRST = Version("1" * 64, "b/base", "v1", size=300, rank=4, training_id=None, created_at=now())
SECOND = replace(FIRST, id="2" * 64, training_id="t", created_at=FIRST.created_at + timedelta(seconds=1))
PRIVATE, PUBLIC = Visibility.PRIVATE, Visibility.PUBLIC


def create(
    store: PredictionStore, name: str = "ann/tune", tenant: str = "ann", visibility: Visibility = PRIVATE
) -> FineTune:
    return store.run(commands.create(name, tenant, visibility, "Mine."))


def names(store: PredictionStore, tenant: str) -> list[str]:
    return [fine_tune.name for fine_tune in store.run(commands.visible_to(tenant))]


def stored(store: PredictionStore, owner: str = "ann") -> int:
    return int(store.redis.get(Keys.stored(owner)) or 0)


def test_a_fine_tune_begins_without_versions(store: PredictionStore) -> None:
    created = create(store)
    assert (created.name, created.tenant, created.visibility) == ("ann/tune", "ann", PRIVATE)
    assert (created.description, created.versions) == ("Mine.", ())
    assert store.run(commands.get("ann/tune")) == created
    with pytest.raises(ModelNotFound, match="ann/other"):
        store.run(commands.get("ann/other"))


def test_a_name_is_taken_once_and_a_repetition_finds_its_own(store: PredictionStore) -> None:
    created = create(store)
    assert create(store) == created
    for tenant, visibility, description in (
        ("bob", PRIVATE, "Mine."),
        ("ann", PUBLIC, "Mine."),
        ("ann", PRIVATE, None),
    ):
        with pytest.raises(FineTuneExists, match="ann/tune"):
            store.run(commands.create("ann/tune", tenant, visibility, description))
    assert store.run(commands.get("ann/tune")) == created


def test_a_tenant_has_a_bounded_number(store: PredictionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_FINE_TUNES", 2)
    created = [create(store, f"ann/{name}") for name in "ab"]
    with pytest.raises(TooManyFineTunes):
        create(store, "ann/c")
    assert create(store, "ann/b") == created[1]
    assert create(store, "bob/c", "bob").tenant == "bob"


def test_private_ones_are_their_tenants_and_public_ones_everybodys(store: PredictionStore) -> None:
    create(store, "ann/private")
    create(store, "ann/public", visibility=PUBLIC)
    create(store, "bob/private", "bob")
    assert names(store, "ann") == ["ann/public", "ann/private"]
    assert names(store, "bob") == ["bob/private", "ann/public"]
    assert names(store, "eve") == ["ann/public"]
    found = store.run(commands.get("ann/private"))
    assert (found.is_visible_to("ann"), found.is_visible_to("bob")) == (True, False)


def test_visibility_and_description_change(store: PredictionStore) -> None:
    create(store)
    changed = store.run(commands.change("ann/tune", "ann", PUBLIC, None))
    assert (changed.visibility, changed.description) == (PUBLIC, None)
    assert names(store, "bob") == ["ann/tune"]
    store.run(commands.change("ann/tune", "ann", PRIVATE, "Again mine."))
    assert names(store, "bob") == []
    for name, tenant in (("ann/tune", "bob"), ("ann/other", "ann")):
        with pytest.raises(ModelNotFound):
            store.run(commands.change(name, tenant, PUBLIC, None))
    assert store.run(commands.get("ann/tune")).description == "Again mine."


def test_versions_are_newest_first_and_count_once(store: PredictionStore) -> None:
    create(store)
    for _ in range(2):  # the second is a repetition
        store.run(commands.add_version("ann/tune", "ann", FIRST))
    assert store.run(commands.add_version("ann/tune", "ann", SECOND)).versions == (SECOND, FIRST)
    assert stored(store) == 600
    # Added again for another version of the base, it is the newest.
    again = replace(FIRST, base_version="v2", created_at=SECOND.created_at + timedelta(seconds=1))
    assert store.run(commands.add_version("ann/tune", "ann", again)).versions == (again, SECOND)
    assert stored(store) == 600
    assert store.run(commands.get("ann/tune")).version(SECOND.id) == SECOND
    with pytest.raises(ModelNotFound, match="ann/tune:3"):
        store.run(commands.get("ann/tune")).version("3")


@pytest.mark.parametrize(("name", "tenant"), [("ann/tune", "bob"), ("ann/other", "ann")])
def test_nobody_else_adds_a_version(store: PredictionStore, name: str, tenant: str) -> None:
    create(store)
    with pytest.raises(ModelNotFound):
        store.run(commands.add_version(name, tenant, FIRST))
    assert store.run(commands.known([FIRST.id])) == [False]


def test_an_adapter_is_known_while_a_fine_tune_has_it(store: PredictionStore) -> None:
    create(store)
    create(store, "bob/tune", "bob")
    store.run(commands.add_version("ann/tune", "ann", FIRST))
    store.run(commands.add_version("bob/tune", "bob", FIRST))
    assert {fine_tune.name for fine_tune in store.run(commands.having(FIRST.id))} == {"ann/tune", "bob/tune"}
    assert store.run(commands.known([FIRST.id, SECOND.id])) == [True, False]
    assert not store.run(commands.delete_version("ann/tune", "ann", FIRST.id))
    assert not store.run(commands.delete_version("bob/tune", "ann", FIRST.id))  # not hers
    for _ in range(2):  # the second is a repetition
        assert store.run(commands.delete_version("bob/tune", "bob", FIRST.id))
    assert store.run(commands.known([FIRST.id])) == [False]
    assert store.run(commands.having(FIRST.id)) == []
    assert (stored(store), stored(store, "bob")) == (0, 0)


def test_a_fine_tune_is_deleted_after_its_versions(store: PredictionStore) -> None:
    create(store, visibility=PUBLIC)
    store.run(commands.add_version("ann/tune", "ann", FIRST))
    with pytest.raises(FineTuneHasVersions):
        store.run(commands.delete("ann/tune", "ann"))
    store.run(commands.delete_version("ann/tune", "ann", FIRST.id))
    assert not store.run(commands.delete("ann/tune", "bob"))
    assert [store.run(commands.delete("ann/tune", "ann")) for _ in range(2)] == [True, False]
    assert store.redis.keys("*") == []
