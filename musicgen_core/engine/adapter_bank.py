"""Which adapters are in memory: a fixed number of places; who was used least lately makes room."""

from __future__ import annotations

import heapq
from typing import Protocol

import torch
from torch import Tensor

from musicgen_core.adapters.adapter import EMBEDDING, Adapter, AdapterUse, Changes, LowRank
from musicgen_core.engine.adapters import AppliedAdapter, StackedChange
from musicgen_core.engine.pieces import LOADING_PIECE, Pieces
from musicgen_core.executor import Resumable
from musicgen_core.lm.linear import PackedLinear
from musicgen_core.lm.transformer import LanguageModel


class AdapterStore(Protocol):
    """Holds adapters in places, as one way of computing a step needs them."""

    def put(self, place: int, adapter: Adapter, /) -> Resumable[Changes]:
        """Replace what a place holds, piece by piece; returns the changes on the model's device."""


class AdapterBank:
    """The adapters in memory. Not thread-safe; one request enters at a time."""

    def __init__(self, store: AdapterStore, places: int) -> None:
        self._store = store
        self._free = list(range(places))  # a heap: low places keep padded steps small
        self._held: dict[str, tuple[int, Changes]] = {}
        """Of each adapter's digest its place, and its changes; the least lately used first."""
        self._users: dict[int, str] = {}

    @property
    def held(self) -> tuple[str, ...]:
        """The digests of the adapters in memory, the least lately used first."""
        return tuple(self._held)

    def has_room(self, adapter: Adapter) -> bool:
        """Whether an adapter is in memory or can get a place there."""
        return adapter.digest in self._held or bool(self._free) or self._unused() is not None

    def enter(self, slot: int, use: AdapterUse) -> Resumable[AppliedAdapter]:
        """Bring a slot's adapter into memory, where there `has_room`, and keep it there until the slot leaves."""
        adapter, digest = use.adapter, use.adapter.digest
        if digest not in self._held:
            self._held[digest] = yield from self._load(adapter)
        place, changes = self._held[digest] = self._held.pop(digest)
        self._users[slot] = digest
        return AppliedAdapter(place, adapter.rank, changes, use.strength)

    def leave(self, slot: int) -> None:
        """Note that a slot no longer uses its adapter, if it had one."""
        self._users.pop(slot, None)

    def _load(self, adapter: Adapter) -> Resumable[tuple[int, Changes]]:
        if not self._free and (unused := self._unused()) is not None:
            place, _ = self._held.pop(unused)
            self._free.append(place)
        place = heapq.heappop(self._free)
        try:
            changes = yield from self._store.put(place, adapter)
        except BaseException:  # given up on the way
            heapq.heappush(self._free, place)
            raise
        return place, changes

    def _unused(self) -> str | None:
        """The adapter that nobody uses and that was used least lately."""
        return next((digest for digest in self._held if digest not in self._users.values()), None)


class PlainStore:
    """Changes as they are, for steps by torch slot by slot."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def put(self, _: int, adapter: Adapter, /) -> Resumable[Changes]:
        """See `AdapterStore`."""
        changes, pieces = {}, Pieces(LOADING_PIECE)
        for target, parts in adapter.changes.items():
            if pieces.full(sum(part.size for part in parts)):
                yield
            changes[target] = tuple(part.to(self._model.device, self._model.dtype) for part in parts)
        return changes


class StackedStore:
    """Changes of all places stacked, in memory that stays where it is: what padded steps read, recorded or not.

    It is set aside when the first adapter comes, so that nobody pays who uses none.
    """

    def __init__(self, model: LanguageModel, *, places: int, rank: int) -> None:
        """`rank`: the largest of any change."""
        self._model = model
        self._places = places
        self._rank = rank
        self.stacks: dict[str, StackedChange] = {}
        """By the names of the products of a step; empty before the first adapter."""

    def put(self, place: int, adapter: Adapter, /) -> Resumable[Changes]:
        """See `AdapterStore`."""
        if not self.stacks:
            self.stacks.update(self._allocate())
        for stack in self.stacks.values():
            stack.a[place].zero_()
            stack.b[place].zero_()
        changes, pieces = {}, Pieces(LOADING_PIECE)
        for target, parts in adapter.changes.items():
            if pieces.full(sum(part.size for part in parts)):
                yield
            if (own := self.stacks.get(target)) is None:  # no step needs it, such as that of the conditions' keys
                changes[target] = tuple(part.to(self._model.device, self._model.dtype) for part in parts)
            else:
                changes[target] = tuple(_place_in(own, place, part, embeds=target == EMBEDDING) for part in parts)
        return changes

    def _allocate(self) -> dict[str, StackedChange]:
        model, config = self._model, self._model.config

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(self._places, *shape, device=model.device, dtype=model.dtype)

        tables = zeros(config.codebooks * (config.vocabulary + 1), self._rank)
        stacks = {EMBEDDING: StackedChange(tables, zeros(config.codebooks, self._rank, config.dim))}
        for name, module in model.named_modules():
            kind = name.rpartition(".")[2]
            if isinstance(module, PackedLinear) and kind != "condition_kv":
                parts = {"qkv": 3, "head": config.codebooks}.get(kind, 1)
                a, b = zeros(parts, self._rank, module.inputs), zeros(parts, self._rank, module.outputs // parts)
                stacks[name] = StackedChange(a, b)
        return stacks


def _place_in(stack: StackedChange, place: int, part: LowRank, *, embeds: bool) -> LowRank:
    """Copy a change into its place; returns it as views of there."""
    rank, (outputs, inputs) = part.rank, (part.b.shape[0], part.a.shape[1])
    if embeds:
        a, index = stack.a[place, part.start : part.start + inputs, :rank].T, part.start // inputs
    else:
        index = part.start // outputs
        a = stack.a[place, index, :rank]
    b = stack.b[place, index, :rank].T
    a.copy_(part.a)
    b.copy_(part.b)
    return LowRank(part.start, a, b)
