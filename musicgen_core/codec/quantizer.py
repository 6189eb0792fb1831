"""Residual vector quantization: latents to codes and back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from musicgen_core.codec.checkpoint import CodecConfig, Weights


class Quantizer:
    """Codebooks, each of which codes what the ones before it have left."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        self._tables = [
            weights.take(f"quantizer.layers.{index}.codebook.embed", config.codebook_size, config.width)
            for index in range(config.quantizers)
        ]

    def encode(self, latents: Tensor) -> Tensor:
        """`[channels, dim, frames]` to the codes of the nearest vectors, `[quantizers, channels, frames]` (int64)."""
        rest, codes = latents.transpose(1, 2), []
        for table in self._tables:
            rows, vectors = rest.reshape(-1, rest.shape[-1]), table.t()
            # Spelled as transformers does it, to the order of the terms: neighbours may be nearly as near.
            nearness = -(rows.pow(2).sum(1, keepdim=True) - 2 * rows @ vectors + vectors.pow(2).sum(0, keepdim=True))
            codes.append(nearness.max(dim=-1).indices.view(rest.shape[:-1]))
            rest = rest - F.embedding(codes[-1], table)
        return torch.stack(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """`[quantizers, channels, frames]` to `[channels, dim, frames]`."""
        first, *others = (F.embedding(part, table) for part, table in zip(codes, self._tables, strict=True))
        return sum(others, start=first).transpose(1, 2)
