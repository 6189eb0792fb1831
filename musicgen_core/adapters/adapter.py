"""An adapter in memory: low-rank changes to a language model's products.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021, https://arxiv.org/abs/2106.09685): a trained
product is `W x + B A x`, where A and B have few rows and columns. W stays as it is, so one copy of the model serves
requests with different adapters and with none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from musicgen_core.errors import InvalidRequest
from musicgen_core.lm.transformer import LanguageModelConfig
from musicgen_core.options import MAX_ADAPTER_STRENGTH

EMBEDDING = "embedding"
"""The target of changes to the codebooks' embeddings."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """A change `b a` to some outputs of one product, float32 on the CPU as it is loaded."""

    start: int
    """Its first output among the product's; for the embeddings, its first row in the stacked tables."""
    a: Tensor
    """`[rank, inputs]`; for the embeddings `[rank, vocabulary + 1]`."""
    b: Tensor
    """`[outputs, rank]`, the adapter's own scale included; for the embeddings `[dim, rank]`."""

    @property
    def rank(self) -> int:
        """How many rows `a` has."""
        return self.a.shape[0]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.a.numel() + self.b.numel()

    def to(self, device: torch.device, dtype: torch.dtype) -> LowRank:
        """The same change on a device, in its number type."""
        return LowRank(self.start, self.a.to(device, dtype), self.b.to(device, dtype))


Changes = Mapping[str, tuple[LowRank, ...]]
"""The changes to each product, by the module's name in `LanguageModel`, in order of their outputs."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter for models of one shape; never changed."""

    name: str
    digest: str
    """SHA-256 over its files, in hex: equal ones make the same music."""
    config: LanguageModelConfig
    """Of the models that it fits."""
    changes: Changes

    @cached_property
    def rank(self) -> int:
        """The largest rank of its changes."""
        return max(part.rank for parts in self.changes.values() for part in parts)

    @cached_property
    def size(self) -> int:
        """How many numbers it has."""
        return sum(part.size for parts in self.changes.values() for part in parts)


@dataclass(frozen=True)
class AdapterUse:
    """An adapter, and how much of it a request wants. Raises InvalidRequest where the strength makes no sense."""

    adapter: Adapter
    strength: float = 1.0
    """Multiplies the change: 0 to 2; 1 is the adapter as it was trained."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= MAX_ADAPTER_STRENGTH:
            raise InvalidRequest(
                f"The adapter's strength must lie between 0 and {MAX_ADAPTER_STRENGTH:g}, got {self.strength}."
            )
