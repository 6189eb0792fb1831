from dataclasses import replace
from itertools import product

import pytest

from musicgen_core.engine.buckets import Bucket, BucketGrid

SMALL = BucketGrid(Bucket(slots=32, length=1536, condition_length=512, ranks=2048))
MELODY = BucketGrid(Bucket(slots=5, length=2304, condition_length=0, ranks=2048))
TINY = BucketGrid(Bucket(slots=3, length=128, condition_length=16, ranks=64))


@pytest.mark.parametrize("grid", [SMALL, MELODY, TINY], ids=["small", "melody", "tiny"])
def test_a_bucket_holds_the_step_it_is_for_and_no_more_than_there_is(grid: BucketGrid) -> None:
    largest = grid.largest
    for slots, length, tokens, ranks in product((1, 3, 17, 32), (1, 256, 257, 1504), (1, 64, 65), (0, 1, 250, 2048)):
        exact = Bucket(
            min(slots, largest.slots),
            min(length, largest.length),
            min(tokens, largest.condition_length),
            min(ranks, largest.ranks),
        )
        bucket = grid.round_up(exact)
        for name in ("slots", "length", "condition_length", "ranks"):
            assert getattr(exact, name) <= getattr(bucket, name) <= getattr(largest, name)
        assert grid.round_up(bucket) == bucket


def test_there_are_few_buckets() -> None:
    buckets = {
        SMALL.round_up(Bucket(slots, length, tokens, ranks))
        for slots in range(1, 33)
        for length in (*range(1, 1537, 85), 1536)
        for tokens in (1, 20, 64, 65, 300, 512)
        for ranks in (0, 1, 20, 250, 256, 257, 2048)
    }
    assert {bucket.slots for bucket in buckets} == {1, 2, 4, 8, 16, 24, 32}
    assert {bucket.length for bucket in buckets} == {256, 512, 768, 1024, 1280, 1536}
    assert {bucket.condition_length for bucket in buckets} == {64, 512}
    assert {bucket.ranks for bucket in buckets} == {256, 2048}


def test_adapters_are_computed_in_few_sizes_and_only_where_there_are_some() -> None:
    grid = BucketGrid(replace(SMALL.largest, adapters=8, adapter_rank=64))
    sizes = set()
    for adapters, rank in ((0, 0), *product(range(1, 9), range(1, 65))):
        bucket = grid.round_up(Bucket(1, 1, 1, 1, adapters, rank))
        assert bucket.adapters >= adapters
        assert bucket.adapter_rank >= rank
        sizes.add((bucket.adapters, bucket.adapter_rank))
    assert sizes == {(0, 0), *product((1, 2, 4, 8), (16, 64))}
    assert all(bucket.adapters == 0 for bucket in grid.common())


def test_a_melody_model_reads_no_conditions() -> None:
    assert MELODY.round_up(Bucket(1, 300, 1, 250)) == Bucket(1, 512, 0, 256)


def test_the_common_ones_are_the_largest_and_a_lone_request_s_way() -> None:
    assert SMALL.common() == [SMALL.largest, *(Bucket(1, length, 64, 256) for length in range(1536, 0, -256))]
    assert TINY.common() == [TINY.largest, Bucket(1, 128, 16, 64)]
