"""What is known of a request before its first step, computed into its slot piece by piece.

That is the keys and values of its conditions and of its given columns. Two bounds keep a piece short:

- A *chunk* is a run of positions that goes through the layers together, after the chunks before it. Its length depends
  on the model and the number of rows alone, never on the load, so that a request's bits do not depend on it either.
- A *piece* is as many layers of a chunk as fit between two decoding steps. Where a piece ends changes no result.

**Nothing is computed twice.** A slot's first positions stay as they are while its request runs, and afterwards until
another one enters. A request that begins as they do copies them, or finds them in its own slot. That is exact to the
bit: the model is causal, so they depend on nothing that follows, and a chunk ends where the conditions of a melody
model end, so a request alone would make them by the very same products of the same shapes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_core.engine.adapters import SequenceAdapter
from musicgen_core.engine.attention import Lane, SequenceAttention
from musicgen_core.engine.kv_cache import KVCache
from musicgen_core.engine.pieces import Pieces
from musicgen_core.engine.request import Request, condition_vectors
from musicgen_core.executor import Resumable
from musicgen_core.lm.transformer import LanguageModel, Layer

CPU_PIECE = 1.5e9
"""Multiply-adds of a piece on a CPU. Two cores that do 40 G a second, less than half of what AVX2 allows, take 38 ms;
with attention and all that is no matrix product, about 50."""
DEVICE_PIECE = 5e10
"""The same on an accelerator, by their peaks from half a millisecond on an H100 to 20 on a T4 in float32; enough for a
kernel to be worth its launch."""
READING_ROWS = 8
"""Reading a layer's weights takes as long as multiplying so many rows by them: less work than that costs no less."""
COPYING_WORK = 4
"""Copying a byte takes as long as so many multiply-adds."""


@dataclass(frozen=True)
class Beginning:
    """What a slot's cache begins with. Equal ones stand for equal bits."""

    conditions: bytes
    """A digest of the conditions, of which rows follow them, and of the adapter that computes them."""
    columns: bytes
    """A digest of the given columns."""
    before: int
    """Positions before column 0."""
    given: int
    """Columns before the one that the first step takes in."""

    @classmethod
    def of(cls, request: Request, columns: Tensor, *, before: int) -> Beginning:
        """What is known of a request; `columns`: its delayed codes `[columns, codebooks]`."""
        given, conditions, use = request.prompt_frames, request.conditions, request.adapter
        rows = repr((request.rows, use and (use.adapter.digest, use.strength))).encode()
        return cls(
            conditions=rows + _digest(conditions.text) + _digest(conditions.chroma),
            columns=_digest(columns[:given]),
            before=before,
            given=given,
        )

    def shared_with(self, other: Beginning) -> int:
        """How many of its positions another one with the same conditions has too."""
        return self.before + (self.given if self.columns == other.columns else 0)


class Prefill:
    """Fills slots before their first step, and knows what they begin with. Not thread-safe."""

    def __init__(self, model: LanguageModel, cache: KVCache, positions: Tensor) -> None:
        """`positions`: the table of positions `[positions, dim]`."""
        self._model = model
        self._cache = cache
        self._positions = positions
        self._beginnings: dict[int, Beginning] = {}
        self._bound = CPU_PIECE if model.device.type == "cpu" else DEVICE_PIECE

    def fill(self, slot: int, lane: Lane, request: Request, columns: Tensor) -> Resumable[None]:
        """Fill a slot with all that is known of its request; `columns`: its delayed codes `[columns, codebooks]`."""
        beginning = Beginning.of(request, columns, before=lane.position - request.prompt_frames)
        pieces = Pieces(self._bound)
        source = self._find(slot, beginning)
        shared = 0 if source is None else beginning.shared_with(self._beginnings[source])
        self.forget(slot)
        if source is None:
            yield from self._fill_conditions(slot, lane, request, pieces)
        elif source != slot:
            yield from self._copy(source, slot, lane, shared, pieces)
        if shared < beginning.before + beginning.given:
            given = self._model.embed(columns[: beginning.given], _adapter(lane)).expand(lane.rows, -1, -1)
            yield from self._run(slot, lane, given, beginning.before, pieces)
        self._beginnings[slot] = beginning

    def forget(self, slot: int) -> None:
        """Take a slot's first positions for lost."""
        self._beginnings.pop(slot, None)

    def _find(self, slot: int, beginning: Beginning) -> int | None:
        """The slot that begins with the same conditions and has most in common; `slot` itself before others."""

        def rank(held: int) -> tuple[int, bool]:
            return beginning.shared_with(self._beginnings[held]), held == slot

        alike = [held for held, other in self._beginnings.items() if other.conditions == beginning.conditions]
        return max(alike, key=rank, default=None)

    def _copy(self, source: int, slot: int, lane: Lane, positions: int, pieces: Pieces) -> Resumable[None]:
        """Copy the conditions and the first positions of another slot."""
        theirs, ours = (self._cache.rows(which, lane.rows, positions) for which in (source, slot))
        condition, own = (self._cache.condition_row(which, lane.condition_tokens) for which in (source, slot))
        # First that of all layers which padded attention overwrites as soon as a request leaves its slot.
        ours[..., :1, :] = theirs[..., :1, :]
        work = COPYING_WORK * (theirs[0].nbytes + condition[0].nbytes)
        for layer in range(self._model.config.layers):
            if pieces.full(work):
                yield
            ours[layer, ..., 1:, :] = theirs[layer, ..., 1:, :]
            own[layer] = condition[layer]

    def _fill_conditions(self, slot: int, lane: Lane, request: Request, pieces: Pieces) -> Resumable[None]:
        """Compute what a text model attends to through cross-attention, or what a melody model has before column 0."""
        adapter = _adapter(lane)
        rows = [
            condition_vectors(self._model, request.conditions, conditional=row, adapter=adapter) for row in request.rows
        ]
        if self._model.config.is_melody:
            yield from self._run(slot, lane, torch.stack(rows), 0, pieces)
            return
        work = max(lane.condition_tokens, READING_ROWS) * 2 * self._model.config.dim**2
        condition = self._cache.condition_row(slot, lane.condition_tokens)
        for layer in self._layers:
            if pieces.full(work):
                yield
            condition[layer.index, :, 0] = layer.condition_keys_values(rows[0], adapter)

    def _run(self, slot: int, lane: Lane, x: Tensor, first: int, pieces: Pieces) -> Resumable[None]:
        """Run the positions from `first` on through all layers: `x` is `[rows, positions, dim]`."""
        x, adapter = x + self._positions[first : first + x.shape[1]], _adapter(lane)
        for chunk in torch.split(x, self._chunk_length(lane.rows), dim=1):
            length, hidden = chunk.shape[1], chunk
            attention = SequenceAttention(self._cache, slot, lane, length, cached=first)
            work = max(lane.rows * length, READING_ROWS) * self._row_work
            for layer in self._layers:
                if pieces.full(work):
                    yield
                hidden = layer(hidden, attention, adapter)
            first += length

    def _chunk_length(self, rows: int) -> int:
        """How many positions may go through a layer together: one layer of them is one piece."""
        return max(1, int(self._bound / (rows * self._row_work)))

    @property
    def _row_work(self) -> int:
        """Multiply-adds of one position's row in one layer.

        Those of attention, at most a quarter more in musicgen-small and less in larger models, are left out: so chunks
        are equally long everywhere.
        """
        config = self._model.config
        condition = 0 if config.is_melody else 2 * config.dim**2
        return 4 * config.dim**2 + condition + 2 * config.dim * config.ffn_dim

    @property
    def _layers(self) -> list[Layer]:
        return [layer for layer in self._model.layers if isinstance(layer, Layer)]


def _adapter(lane: Lane) -> SequenceAdapter | None:
    return None if lane.adapter is None else SequenceAdapter(lane.adapter)


def _digest(tensor: Tensor | None) -> bytes:
    """A digest of a tensor's type, shape and bytes."""
    if tensor is None:
        return b"none"
    content = tensor.cpu().clone(memory_format=torch.contiguous_format)
    digest = hashlib.blake2b(f"{content.dtype} {list(content.shape)}".encode())
    digest.update(content.view(torch.uint8).numpy().tobytes())
    return digest.digest()
