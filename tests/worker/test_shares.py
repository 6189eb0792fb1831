"""Places: some in all, fewer for each owner, fewer for each host."""

from __future__ import annotations

from worker.shares import Busy, Places, Shares


def taken(shares: Shares, owner: str, host: str, tries: int = 20) -> int:
    return sum(shares.take(owner, host) for _ in range(tries))


def test_each_owner_and_each_host_has_its_share() -> None:
    shares = Shares(Places(total=12, each_owner=4, each_host=5, each_lane=3))
    assert shares.busy() == Busy()
    assert taken(shares, "ann", "slow") == 3
    assert shares.busy() == Busy(lanes=(("ann", "slow"),))
    assert taken(shares, "ann", "other") == 1
    assert shares.busy().owners == ("ann",)
    assert taken(shares, "ann", "third") == 0
    assert taken(shares, "bob", "slow") == 2
    assert shares.busy().hosts == ("slow",)
    assert taken(shares, "bob", "other") == 2
    assert [taken(shares, owner, "fast") for owner in ("cat", "dan", "eve")] == [3, 1, 0]


def test_a_place_that_is_given_back_is_free_again() -> None:
    shares = Shares(Places(total=1, each_owner=1, each_host=1, each_lane=1))
    assert taken(shares, "ann", "slow") == 1
    shares.give_back("ann", "slow")
    assert shares.busy() == Busy()
    assert taken(shares, "bob", "slow") == 1
