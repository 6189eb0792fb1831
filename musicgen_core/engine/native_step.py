"""A step's computation by the kernels: one call from the columns that go in to the logits of the next ones."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from musicgen_core.adapters.adapter import EMBEDDING, Adapter, Changes
from musicgen_core.engine.attention import Lane
from musicgen_core.engine.kv_cache import ROWS, KVCache
from musicgen_core.engine.pieces import LOADING_PIECE, Pieces
from musicgen_core.executor import Resumable
from musicgen_core.kernels.decoder import PRODUCTS, Decoder, DecoderLayer, Norm, PackedAdapter
from musicgen_core.lm.linear import PackedLinear
from musicgen_core.lm.transformer import LanguageModel, Layer


class NativeStep:
    """Computes the rows of running requests alone; what a row gets does not depend on the others, not in one bit."""

    def __init__(self, model: LanguageModel, cache: KVCache, positions: Tensor, *, max_rank: int = 0) -> None:
        """`model`: packed for kernels. `positions`: the table of positions, `[positions, dim]`.

        `max_rank`: of an adapter's change to one module; 0: there are no adapters.
        """
        config = model.config
        self._model = model
        self._outputs = {module.name: module.outputs for module in model.modules() if isinstance(module, PackedLinear)}
        self._adapters: dict[int, PackedAdapter] = {}
        """By place."""
        slots = cache.keys_values.shape[2] // ROWS
        self._decoder = Decoder(
            [_layer(layer) for layer in model.layers if isinstance(layer, Layer)],
            _norm(model.norm),
            model.head.matrix,
            embedding=model.embedding,
            positions=positions,
            codebooks=config.codebooks,
            heads=config.heads,
            activation=config.activation,
            epsilon=model.norm.eps,
            keys_values=cache.keys_values,
            condition=cache.condition,
            max_rows=slots * ROWS,
            max_ranks=max(3, config.codebooks) * max_rank,  # queries, keys and values together, or all heads
        )
        self._logits = torch.zeros(slots, ROWS, config.codebooks, config.vocabulary)

    def logits(self, lanes: Mapping[int, Lane], columns: Tensor, column: Tensor) -> Tensor:
        """Logits `[slots, ROWS, codebooks, vocabulary]`, up to the highest slot in use; read them before the next step.

        Those of rows that do not run have no meaning. `columns`: the codes, int64 `[slots, columns, codebooks]`, with a
        column's codes side by side in memory.
        `column`: of each slot the one that goes in, int64 `[slots]`.
        """
        assert columns.stride(2) == 1
        slots, rows, places = max(lanes) + 1, [], column.tolist()
        for slot, lane in lanes.items():
            adapter = self._adapter(lane)
            tokens = columns[slot, places[slot]].data_ptr()
            for row in range(lane.rows):
                attended = lane.condition_tokens if row == 0 else 0  # the unconditional row gets zeros
                logits = self._logits[slot, row].data_ptr()
                rows.append((tokens, logits, lane.position, slot * ROWS + row, slot, attended, *adapter))
        self._decoder.step(torch.tensor(rows))
        return self._logits[:slots]

    def put(self, place: int, adapter: Adapter, /) -> Resumable[Changes]:
        """Pack an adapter for the steps: see `adapter_bank.AdapterStore`. Prefill reads it as it is."""
        config, changes, kernels = self._model.config, adapter.changes, self._model.head.matrix.kernels
        packed = PackedAdapter(config.layers, kernels, **_embedding(changes, self._model))
        names = [f"layers.{layer}.{product}" for layer in range(config.layers) for product in PRODUCTS]
        pieces = Pieces(LOADING_PIECE)
        for index, name in enumerate([*names, "head"]):
            if (parts := changes.get(name)) is None:
                continue
            if pieces.full(sum(part.size for part in parts)):
                yield
            packed.set(index, self._outputs[name], [(part.start, part.a, part.b) for part in parts])
        self._adapters[place] = packed
        return changes

    def _adapter(self, lane: Lane) -> tuple[int, int]:
        """The address of a lane's adapter, and the bits of its strength."""
        if lane.adapter is None:
            return 0, 0
        (bits,) = struct.unpack("=q", struct.pack("=d", lane.adapter.strength))
        return self._adapters[lane.adapter.place].pointer, bits


def _embedding(changes: Changes, model: LanguageModel) -> dict[str, Tensor]:
    """The changes to the embeddings as `PackedAdapter` takes them."""
    if (parts := changes.get(EMBEDDING)) is None:
        return {}
    codebooks, dim = model.config.codebooks, model.config.dim
    rank = max(part.rank for part in parts)
    tables, embedding = torch.zeros(len(model.embedding), rank), torch.zeros(codebooks, rank, dim)
    for part in parts:
        tokens = part.a.shape[1]
        tables[part.start : part.start + tokens, : part.rank] = part.a.T
        embedding[part.start // tokens, : part.rank] = part.b.T
    return {"tables": tables, "embedding": embedding}


def _layer(layer: Layer) -> DecoderLayer:
    crosses = layer.has_condition
    return DecoderLayer(
        attention_norm=_norm(layer.attention_norm),
        qkv=layer.qkv.matrix,
        attention_out=layer.attention_out.matrix,
        condition_norm=_norm(layer.condition_norm) if crosses else None,
        condition_query=layer.condition_query.matrix if crosses else None,
        condition_out=layer.condition_out.matrix if crosses else None,
        feed_forward_norm=_norm(layer.feed_forward_norm),
        feed_forward_in=layer.feed_forward_in.matrix,
        feed_forward_out=layer.feed_forward_out.matrix,
    )


def _norm(norm: nn.LayerNorm) -> Norm:
    return Norm(norm.weight, norm.bias)
