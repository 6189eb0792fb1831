"""Three ways to attend over the cache: a whole sequence, slot by slot, all slots padded.

*Sequence* fills one slot with the part of a request that is known beforehand, chunk after chunk. *By slot* reads
exactly each request's own positions in a call of its own: its result cannot depend on the neighbours, not in one bit,
and idle slots cost nothing. *Padded* reads all slots in one call under a mask, as suits a GPU; all shapes are those of
a bucket, never of a single request, so that a step can be recorded as a graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from musicgen_core.engine.adapters import AppliedAdapter
from musicgen_core.engine.buckets import Bucket
from musicgen_core.engine.kv_cache import ROWS, KVCache

PADDING_MULTIPLE = 64
"""The cache's positions are rounded up to this: aligned for the fused kernels."""


def round_up(length: int) -> int:
    """The next multiple of PADDING_MULTIPLE."""
    return -(-length // PADDING_MULTIPLE) * PADDING_MULTIPLE


@dataclass
class Lane:
    """What the host knows of a running slot."""

    rows: int
    """2 with guidance, else 1."""
    position: int
    """Where the next column's keys and values go."""
    condition_tokens: int
    """Length of what cross-attention reads (text models)."""
    adapter: AppliedAdapter | None = None


class SequenceAttention:
    """Causal attention over a chunk of a request's first positions, all at once; fills its slot."""

    def __init__(self, cache: KVCache, slot: int, lane: Lane, positions: int, *, cached: int = 0) -> None:
        """`positions`: how many the chunk has. `cached`: how many the slot holds already; the chunk sees them too."""
        self._keys_values = cache.rows(slot, lane.rows, cached + positions)
        self._condition = cache.condition_row(slot, lane.condition_tokens)
        self._cached = cached
        self._mask = None
        if cached:
            seen = torch.ones(positions, cached + positions, dtype=torch.bool, device=cache.keys_values.device)
            self._mask = seen.tril(cached)

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """`[rows, positions, 3, heads, head_dim]` to `[rows, positions, dim]`."""
        query, new_keys, new_values = qkv.permute(2, 0, 3, 1, 4)
        keys, values = self._keys_values[layer]
        keys[:, :, self._cached :] = new_keys
        values[:, :, self._cached :] = new_values
        causal = self._mask is None
        keys, values = keys.to(query.dtype), values.to(query.dtype)  # beside 8-bit products they are kept in float16
        out = scaled_dot_product_attention(query, keys, values, attn_mask=self._mask, is_causal=causal)
        return out.transpose(1, 2).flatten(-2)

    def attend_condition(self, layer: int, query: Tensor) -> Tensor:
        """`[rows, positions, heads, head_dim]` to `[rows, positions, dim]`; the unconditional row gets zeros."""
        keys, values = self._condition[layer].to(query.dtype)
        out = torch.zeros_like(query)
        out[:1] = scaled_dot_product_attention(query[:1].transpose(1, 2), keys, values).transpose(1, 2)
        return out.flatten(-2)


class SlotAttention:
    """One step's attention, each running slot separately, with its exact length. Its rows are `[slots * ROWS]`."""

    def __init__(self, cache: KVCache, lanes: Mapping[int, Lane]) -> None:
        self._parts = [
            (
                slot * ROWS,
                slot * ROWS + lane.rows,
                cache.rows(slot, lane.rows, lane.position + 1),
                cache.condition_row(slot, lane.condition_tokens),
            )
            for slot, lane in lanes.items()
        ]

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """`[slots * ROWS, 3, heads, head_dim]` to `[slots * ROWS, dim]`; idle rows get zeros."""
        out = torch.zeros_like(qkv[:, 0])
        for first, last, keys_values, _ in self._parts:
            keys, values = keys_values[layer]
            query, keys[:, :, -1], values[:, :, -1] = qkv[first:last].unbind(1)
            out[first:last] = scaled_dot_product_attention(query.unsqueeze(2), keys, values).squeeze(2)
        return out.flatten(1)

    def attend_condition(self, layer: int, query: Tensor) -> Tensor:
        """`[slots * ROWS, heads, head_dim]` to `[slots * ROWS, dim]`; unconditional and idle rows get zeros."""
        out = torch.zeros_like(query)
        for first, _, _, condition in self._parts:
            keys, values = condition[layer]
            row = slice(first, first + 1)
            out[row] = scaled_dot_product_attention(query[row].unsqueeze(2), keys, values).squeeze(2)
        return out.flatten(1)


class PaddedAttention:
    """One step's attention over all slots of its bucket, in one call. Its rows are `[slots * ROWS]`."""

    def __init__(self, cache: KVCache, positions: Tensor, condition_tokens: Tensor, bucket: Bucket) -> None:
        """Build the masks.

        `positions`, `condition_tokens`: int64 `[slots]` on the device, also for idle slots (any that lie inside the
        bucket). `bucket`: its lengths are upper bounds of positions + 1 and condition_tokens, within the cache.
        """
        slots, device = positions.shape[0], positions.device
        length, tokens = bucket.length, bucket.condition_length
        self._row = torch.arange(slots * ROWS, device=device)
        self._position = positions.repeat_interleave(ROWS)
        self._keys_values = cache.keys_values[:, :, : slots * ROWS, :, :length]
        seen = torch.arange(length, device=device) <= self._position[:, None]
        self._mask = seen[:, None, None]
        self._condition = cache.condition[:, :, :slots, :, :tokens]
        seen = torch.arange(tokens, device=device) < condition_tokens[:, None]
        self._condition_mask = seen[:, None, None]

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """`[slots * ROWS, 3, heads, head_dim]` to `[slots * ROWS, dim]`."""
        keys_values = self._keys_values[layer]
        keys_values[:, self._row, :, self._position] = qkv[:, 1:]
        query, (keys, values) = qkv[:, 0].unsqueeze(2), keys_values
        return scaled_dot_product_attention(query, keys, values, attn_mask=self._mask).flatten(1)

    def attend_condition(self, layer: int, query: Tensor) -> Tensor:
        """`[slots * ROWS, heads, head_dim]` to `[slots * ROWS, dim]`; every second row gets zeros."""
        keys, values = self._condition[layer]
        out = torch.zeros_like(query)
        conditional = query[::ROWS].unsqueeze(2)
        attended = scaled_dot_product_attention(conditional, keys, values, attn_mask=self._condition_mask)
        out[::ROWS] = attended.squeeze(2)
        return out.flatten(1)
