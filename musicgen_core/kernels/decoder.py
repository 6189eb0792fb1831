"""A whole decoding step as one call: from the columns that go in to the logits of the next ones."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_core.kernels.library import Kernels, Matrix, require_library

ACTIVATIONS = {"gelu": 1, "relu": 2, "silu": 3}
"""As `enum activation` in kernels.h numbers them."""
CACHE_NUMBERS = {torch.float32: 0, torch.float16: 1}
"""As `enum number` does."""
PRODUCTS = (
    "qkv",
    "attention_out",
    "condition_query",
    "condition_out",
    "feed_forward_in",
    "feed_forward_out",
)
"""Of each layer, in the order of kernels.h; the head follows after the last layer's."""
PANEL = 16
"""Outputs that are computed together, as in kernels.h."""


@dataclass(frozen=True)
class Norm:
    """A layer normalisation."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class DecoderLayer:
    """The weights of one layer; the condition's are None in models without cross-attention."""

    attention_norm: Norm
    qkv: Matrix
    attention_out: Matrix
    condition_norm: Norm | None
    condition_query: Matrix | None
    condition_out: Matrix | None
    feed_forward_norm: Norm
    feed_forward_in: Matrix
    feed_forward_out: Matrix


class Decoder:
    """The layers of a language model over caches of keys and values, for any rows that are in them."""

    def __init__(
        self,
        layers: Sequence[DecoderLayer],
        norm: Norm,
        head: Matrix,
        *,
        embedding: Tensor,
        positions: Tensor,
        codebooks: int,
        heads: int,
        activation: str,
        epsilon: float,
        keys_values: Tensor,
        condition: Tensor,
        max_rows: int,
        max_ranks: int,
    ) -> None:
        """Keeps all tensors that it is given, and reads and writes them in place.

        `embedding`: `[codebooks * (vocabulary + 1), dim]`. `positions`: `[positions, dim]`. `keys_values`, `condition`:
        the caches of self- and cross-attention, `[layers, 2, rows, heads, positions, head_dim]`, float32 or float16.
        `max_rows`: of a step. `max_ranks`: of an adapter's change to one product, all its parts together.
        """
        self._kept = (layers, norm, head, embedding, positions, keys_values, condition)
        self._library = require_library()
        shape = (
            len(layers),
            positions.shape[1],
            heads,
            layers[0].feed_forward_in.outputs,
            codebooks,
            head.outputs // codebooks,
            max_rows,
            max(keys_values.shape[4], condition.shape[4]),
            CACHE_NUMBERS[keys_values.dtype],
            max_ranks,
        )
        self._pointer: int = self._library.kernels_decoder(
            head.kernels.team.pointer,
            head.pointer,
            (c_int64 * len(shape))(*shape),
            ACTIVATIONS[activation],
            epsilon,
            embedding.data_ptr(),
            positions.data_ptr(),
            norm.weight.data_ptr(),
            norm.bias.data_ptr(),
        )
        weakref.finalize(self, self._library.kernels_decoder_free, self._pointer)
        for index, layer in enumerate(layers):
            self._set_layer(index, layer)
        self._library.kernels_decoder_cache(
            self._pointer,
            keys_values.data_ptr(),
            (c_int64 * 4)(*keys_values.stride()[:4]),
            condition.data_ptr(),
            (c_int64 * 4)(*condition.stride()[:4]),
        )

    def step(self, rows: Tensor) -> None:
        """Compute one step, which writes each row's logits where the row says.

        `rows`: int64 `[rows, 8]`, each as `struct row` in kernels.h: addresses of its column's tokens and of its
        logits, position, row in the cache, row in the condition's cache, how many of its tokens to attend to, address
        of its adapter or 0, and the bits of the adapter's strength, a float64.
        """
        self._library.kernels_step(self._pointer, rows.data_ptr(), len(rows))

    def _set_layer(self, index: int, layer: DecoderLayer) -> None:
        norms = (layer.attention_norm, layer.condition_norm, layer.feed_forward_norm)
        matrices = (
            layer.qkv,
            layer.attention_out,
            layer.condition_query,
            layer.condition_out,
            layer.feed_forward_in,
            layer.feed_forward_out,
        )
        pairs = [(None, None) if norm is None else (norm.weight.data_ptr(), norm.bias.data_ptr()) for norm in norms]
        self._library.kernels_decoder_layer(
            self._pointer,
            index,
            (c_void_p * 6)(*[pointer for pair in pairs for pointer in pair]),
            (c_void_p * 6)(*[None if matrix is None else matrix.pointer for matrix in matrices]),
        )


class PackedAdapter:
    """An adapter in the layout that a step reads, in float32 whatever the model's weights are packed in."""

    def __init__(
        self, layers: int, kernels: Kernels, *, tables: Tensor | None = None, embedding: Tensor | None = None
    ) -> None:
        """Change nothing but the embeddings yet.

        `tables`: `[codebooks * (vocabulary + 1), rank]`. `embedding`: `[codebooks, rank, dim]`. None: no change.
        """
        self._kernels = kernels
        self._kept: list[object] = [tables, embedding]
        self._library = require_library()
        rank = 0 if tables is None else tables.shape[1]
        addresses = [None if tensor is None else tensor.data_ptr() for tensor in (tables, embedding)]
        self.pointer: int = self._library.kernels_adapter(layers, rank, *addresses)
        weakref.finalize(self, self._library.kernels_adapter_free, self.pointer)

    def set(self, product: int, outputs: int, parts: Sequence[tuple[int, Tensor, Tensor]]) -> None:
        """Pack the changes to one product of so many outputs.

        `product`: as PRODUCTS numbers them, layer after layer. `parts`: of each the first output, a `[rank, inputs]`
        and b `[outputs of the part, rank]`, in order.
        """
        ranks = sum(a.shape[0] for _, a, _ in parts)
        whole = torch.zeros(outputs, ranks)
        spans = torch.zeros(-(-outputs // PANEL), 2, dtype=torch.int64)
        spans[:, 0] = ranks
        rank = 0
        for start, a, b in parts:
            stop, end = start + b.shape[0], rank + a.shape[0]
            whole[start:stop, rank:end] = b
            panels = spans[start // PANEL : -(-stop // PANEL)]
            panels[:, 0].clamp_(max=rank)
            panels[:, 1] = end
            rank = end
        low = Matrix(torch.cat([a for _, a, _ in parts]), self._kernels, int8=False)
        high = Matrix(whole, self._kernels, int8=False)
        self._kept += [low, high, spans]
        self._library.kernels_adapter_product(self.pointer, product, low.pointer, high.pointer, spans.data_ptr())
