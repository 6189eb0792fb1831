"""The shapes that padded steps are rounded up to: few enough that each can be recorded as a graph once.

All that a step takes from the host is its bucket. What a bucket has beyond the running requests (slots, positions,
condition tokens, ranks) is computed along, masked or ignored, and changes nobody's result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LENGTH_MULTIPLE = 256
"""Six lengths make 30 s of music; on average a step reads 128 positions of keys and values too many."""
SHORT_CONDITION = 64
"""Most texts have fewer tokens; a longer one gets the room of the longest."""
SHORT_RANKING = 256
"""Holds the default top-k of 250, and greedy; ranking this many costs little more than ranking one."""
SLOT_MULTIPLE = 8
SHORT_RANK = 16
"""Most adapters have no larger rank."""


@dataclass(frozen=True, order=True)
class Bucket:
    """What a step knows on the host. By size: the larger one computes more slots, then more positions."""

    slots: int
    """The step's rows are the pairs of slots 0 to `slots - 1`."""
    length: int
    """Positions of keys and values that self-attention reads."""
    condition_length: int
    """Tokens that cross-attention reads."""
    ranks: int
    """How many of the largest logits are ranked: see `sampler.sample`."""
    adapters: int = 0
    """Places whose adapters are computed; 0: nobody uses one."""
    adapter_rank: int = 0
    """Rows of each of their changes."""


@dataclass(frozen=True)
class BucketGrid:
    """All buckets of one decoder, named by its largest."""

    largest: Bucket

    def round_up(self, exact: Bucket) -> Bucket:
        """The smallest bucket that holds a step of exactly this shape."""
        largest = self.largest
        return Bucket(
            slots=min(_round_up_slots(exact.slots), largest.slots),
            length=min(_round_up(exact.length, LENGTH_MULTIPLE), largest.length),
            condition_length=_one_of(exact.condition_length, SHORT_CONDITION, largest.condition_length),
            ranks=_one_of(exact.ranks, SHORT_RANKING, largest.ranks),
            adapters=min(_round_up_slots(exact.adapters), largest.adapters) if exact.adapters else 0,
            adapter_rank=_one_of(exact.adapter_rank, SHORT_RANK, largest.adapter_rank) if exact.adapters else 0,
        )

    def common(self) -> list[Bucket]:
        """What is worth recording before anybody asks: the largest bucket, and a lone request's, end to start.

        The largest decides how much memory all graphs share. Adapters are left out: many never use one.
        """
        largest = replace(self.largest, adapters=0, adapter_rank=0)
        lone = self.round_up(Bucket(1, 1, 1, SHORT_RANKING))
        lengths = range(LENGTH_MULTIPLE, self.largest.length + LENGTH_MULTIPLE, LENGTH_MULTIPLE)
        alone = {self.round_up(replace(lone, length=length)) for length in lengths}
        return sorted({largest, *alone}, reverse=True)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _round_up_slots(slots: int) -> int:
    """1, 2, 4, then multiples of 8: a few requests are served often, and many pay little for some idle rows."""
    return 1 << (slots - 1).bit_length() if slots < SLOT_MULTIPLE else _round_up(slots, SLOT_MULTIPLE)


def _one_of(number: int, short: int, longest: int) -> int:
    return min(short if number <= short else longest, longest)
