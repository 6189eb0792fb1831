"""From logits to tokens: guidance, temperature, top-k, top-p, for all running requests at once.

Each request brings its own parameters and its own noise, drawn from its own seed before it starts, and every operation
works within one request's rows. What a request draws therefore depends, bit for bit, on its own logits alone.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_core.engine.sampling_params import SamplingParams

LN_2 = math.log(2)


def draw_noise(seed: int, steps: int, codebooks: int, *, greedy: bool, offset: int = 0) -> Tensor:
    """A request's whole stream of uniform numbers in [0, 1): float32 `[steps, codebooks]` on the CPU.

    The CPU's generator gives the same numbers on every machine. `offset`: steps to skip at the stream's
    beginning. Greedy requests get zeros: see `sample`.
    """
    if greedy:
        return torch.zeros(steps, codebooks)
    return torch.rand(offset + steps, codebooks, generator=torch.Generator().manual_seed(seed))[offset:]


@dataclass(frozen=True)
class SamplingTable:
    """The parameters of all slots as tensors `[slots]`, which a step reads without asking the host."""

    guided: Tensor
    """Whether the slot's request runs as a pair of rows."""
    guidance: Tensor
    temperature: Tensor
    top_k: Tensor
    """0: no limit."""
    top_p: Tensor
    """0: `top_k` counts."""

    @classmethod
    def empty(cls, slots: int, device: torch.device) -> "SamplingTable":
        """A table of plain sampling at temperature 1 without guidance."""
        return cls(
            guided=torch.zeros(slots, dtype=torch.bool, device=device),
            guidance=torch.ones(slots, device=device),
            temperature=torch.ones(slots, device=device),
            top_k=torch.zeros(slots, dtype=torch.int64, device=device),
            top_p=torch.zeros(slots, device=device),
        )

    def set(self, slot: int, params: SamplingParams, *, guided: bool) -> None:
        """Write one request's parameters. Greedy is top-k with k = 1."""
        greedy = params.temperature == 0
        self.guided[slot] = guided
        self.guidance[slot] = params.guidance
        self.temperature[slot] = 1.0 if greedy else params.temperature
        self.top_k[slot] = 1 if greedy else params.top_k
        self.top_p[slot] = 0.0 if greedy else params.top_p

    def first(self, slots: int) -> "SamplingTable":
        """The first slots' part; shares memory."""
        return SamplingTable(
            self.guided[:slots],
            self.guidance[:slots],
            self.temperature[:slots],
            self.top_k[:slots],
            self.top_p[:slots],
        )


def ranks_needed(running: Iterable[SamplingParams], vocabulary: int) -> int:
    """How many of the largest logits `sample` must rank; known to the host, so the device never waits."""
    ranks = 0
    for params in running:
        if params.temperature == 0:
            ranks = max(ranks, 1)
        elif params.top_p > 0:
            return vocabulary
        elif params.top_k < vocabulary:
            ranks = max(ranks, params.top_k)
    return ranks


def guide(logits: Tensor, table: SamplingTable) -> Tensor:
    """Mix each slot's conditional and unconditional row; a request that runs as one row keeps it as it is.

    `[slots, 2, codebooks, vocabulary]` to float32 `[slots, codebooks, vocabulary]`.
    """
    first, second = logits.float().unbind(1)
    mixed = second + (first - second) * table.guidance[:, None, None]
    return torch.where(table.guided[:, None, None], mixed, first)


def sample(logits: Tensor, noise: Tensor, table: SamplingTable, ranks: int) -> Tensor:
    """Draw a token for each slot and codebook: int64 `[slots, codebooks]`.

    Inverts the cumulative distribution over the vocabulary in its own order: the token whose interval holds
    `noise * total`. Zero noise takes the first token with any weight: a greedy request's (k = 1) largest.

    `logits`: float32 `[slots, codebooks, vocabulary]`. `noise`: `[slots, codebooks]` in [0, 1). `ranks`: what
    `ranks_needed` says for these requests, or more.
    """
    weights = _weights(logits, logits.amax(-1, keepdim=True), table)
    if ranks:
        weights = weights.masked_fill(logits < _smallest_kept(logits, table, ranks), 0.0)
    # In double precision noise * total stays below total, so the count never runs past the vocabulary.
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    threshold = noise.double().unsqueeze(-1) * cumulative[..., -1:]
    return (cumulative <= threshold).sum(-1)


def _weights(logits: Tensor, largest: Tensor, table: SamplingTable) -> Tensor:
    """Probabilities up to a factor, `[slots, codebooks, n]`; the likeliest token's is 1."""
    # Not exp: torch divides so many of them among its threads, whose spinning then takes a core from the next step.
    return ((logits - largest) / (LN_2 * table.temperature[:, None, None])).exp2_()


def _smallest_kept(logits: Tensor, table: SamplingTable, ranks: int) -> Tensor:
    """The smallest logit that each row still draws from, `[slots, codebooks, 1]`.

    A value rather than a set of indices: equal logits are kept or dropped together, in whichever order the sorting
    algorithm (which the neighbours' k decides) leaves them.
    """
    ranked = logits.topk(ranks).values
    k = table.top_k[:, None, None].expand(*ranked.shape[:2], 1)
    kept = k
    if ranks == logits.shape[-1]:  # some request may use top_p
        weights = _weights(ranked, ranked[..., :1], table)
        cumulative = weights.cumsum(-1, dtype=torch.float64)
        p = table.top_p[:, None, None]
        # The token that crosses p is kept: what lies before it does not reach p.
        nucleus = (cumulative - weights < p * cumulative[..., -1:]).sum(-1, keepdim=True)
        kept = torch.where(p > 0, nucleus, k)
    smallest = ranked.gather(-1, (kept - 1).clamp(0, ranks - 1))
    unlimited = (kept == 0) | (kept >= logits.shape[-1])
    return smallest.masked_fill(unlimited, float("-inf"))
