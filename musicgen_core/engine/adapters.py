"""Three ways to apply adapters, as there are three to attend: to a whole sequence, slot by slot, to all slots padded.

*Sequence* is one request's part that is known beforehand. *By slot* computes each request's change in a call of its
own, whose shapes are the same alone and among others. *Padded* computes the changes of all adapters in memory for all
rows and weights them, by 0 where a row does not use one: on a GPU a few more columns of a product cost less than
gathering each row's own weights, and nothing depends on who uses which adapter, so that a step can be a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_core.adapters.adapter import EMBEDDING, Changes
from musicgen_core.engine.kv_cache import ROWS


@dataclass(frozen=True)
class AppliedAdapter:
    """An adapter in its place in memory, at the strength that a request asks for."""

    place: int
    rank: int
    """The largest of its changes."""
    changes: Changes
    """On the model's device, in its number type."""
    strength: float


class SequenceAdapter:
    """One adapter for all rows."""

    def __init__(self, applied: AppliedAdapter) -> None:
        self._changes = applied.changes
        self._strength = applied.strength

    def add(self, target: str, x: Tensor, product: Tensor) -> Tensor:
        """See `lm.linear.Adapters`."""
        for part in self._changes.get(target, ()):
            outputs = product[..., part.start : part.start + part.b.shape[0]]
            outputs += F.linear(F.linear(x, part.a), part.b) * self._strength
        return product

    def embed(self, tokens: Tensor, embedded: Tensor) -> Tensor:
        """See `lm.linear.Adapters`."""
        for part in self._changes.get(EMBEDDING, ()):
            codebook = part.start // part.a.shape[1]
            low = part.a.T[tokens[..., codebook] - part.start]
            embedded += F.linear(low, part.b) * self._strength
        return embedded


class SlotAdapters:
    """One step's adapters, each running slot separately. Rows are `[slots * ROWS]`, columns of tokens `[slots]`."""

    def __init__(self, lanes: Mapping[int, tuple[int, AppliedAdapter]]) -> None:
        """`lanes`: of each slot that has an adapter its rows, 1 or 2, and the adapter."""
        self._slots = [(slot, rows, SequenceAdapter(applied)) for slot, (rows, applied) in lanes.items()]

    def add(self, target: str, x: Tensor, product: Tensor) -> Tensor:
        """See `lm.linear.Adapters`."""
        for slot, rows, adapter in self._slots:
            part = slice(slot * ROWS, slot * ROWS + rows)
            # Copied: how torch's product sums may depend on where in memory its operand begins.
            adapter.add(target, x[part].clone(), product[part])
        return product

    def embed(self, tokens: Tensor, embedded: Tensor) -> Tensor:
        """See `lm.linear.Adapters`."""
        for slot, _, adapter in self._slots:
            adapter.embed(tokens[slot : slot + 1], embedded[slot : slot + 1])
        return embedded


@dataclass(frozen=True)
class StackedChange:
    """The changes of all places to one product, cut into parts of equally many outputs."""

    a: Tensor
    """`[places, parts, rank, inputs]`; for the embeddings, whose parts are codebooks, `[places, tokens, rank]`."""
    b: Tensor
    """`[places, parts, rank, outputs / parts]`."""


class PaddedAdapters:
    """One step's adapters for all slots of its bucket. Rows are `[slots * ROWS]`, columns of tokens `[slots]`."""

    def __init__(self, stacks: Mapping[str, StackedChange], strengths: Tensor, *, rank: int) -> None:
        """`strengths`: of each place in each slot, 0 where that does not use it, `[places, slots]`.

        `rank`: as many rows of each change are computed.
        """
        self._stacks = stacks
        self._rank = rank
        self._places = strengths.shape[0]
        self._of_slots = strengths[:, None, :, None]
        self._of_rows = strengths.repeat_interleave(ROWS, dim=1)[:, None, :, None]

    def add(self, target: str, x: Tensor, product: Tensor) -> Tensor:
        """See `lm.linear.Adapters`."""
        stack = self._stacks[target]
        low = torch.matmul(x, stack.a[: self._places, :, : self._rank].mT) * self._of_rows
        return product + self._raise(low, stack).transpose(0, 1).flatten(1)

    def embed(self, tokens: Tensor, embedded: Tensor) -> Tensor:
        """See `lm.linear.Adapters`."""
        stack = self._stacks[EMBEDDING]
        low = stack.a[: self._places, tokens.T, : self._rank] * self._of_slots
        return embedded + self._raise(low, stack).sum(0)

    def _raise(self, low: Tensor, stack: StackedChange) -> Tensor:
        """The changes of all places together: `[places, parts, rows, rank]` to `[parts, rows, outputs / parts]`."""
        return torch.matmul(low, stack.b[: self._places, :, : self._rank]).sum(0)
