"""MusicGen's language model: a pre-norm transformer over columns of codes.

Copet et al., "Simple and Controllable Music Generation" (2023, https://arxiv.org/abs/2306.05284). There are two kinds:
*text* models attend to the text through cross-attention; *melody* models have no cross-attention, and get the projected
chroma and text vectors before the columns. The modules know nothing of caches, slots or requests: keys and values are
kept by the `Attention` that they are given, so one definition serves prefill and every way of decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_core.kernels.library import Kernels
from musicgen_core.lm.delay_pattern import codebook_delays
from musicgen_core.lm.linear import Adapters, PackedLinear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
"""The feed-forward activations, by their names in a checkpoint's config."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """The shape of a language model and of its codes."""

    layers: int
    dim: int
    """Width of the hidden states."""
    heads: int
    """Attention heads per layer."""
    ffn_dim: int
    """Width of the feed-forward layers."""
    activation: str
    """Name of the feed-forward activation in `ACTIVATIONS`."""
    codebooks: int
    vocabulary: int
    """Codes per codebook; the padding token is the next value."""
    audio_channels: int
    """1: mono, 2: stereo."""
    text_dim: int
    """Width of the text encoder's states."""
    chroma_bins: int | None
    """Pitch classes of the melody; None in text models."""
    chroma_frames: int | None
    """Frames of the melody; None in text models."""
    frame_rate: int
    """Frames of codes per second."""
    sample_rate: int
    """Of the audio, Hz."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    @property
    def is_melody(self) -> bool:
        """Whether conditions stand before the sequence, instead of behind cross-attention."""
        return self.chroma_bins is not None

    @property
    def delays(self) -> tuple[int, ...]:
        """Each codebook's delay in frames."""
        return codebook_delays(self.codebooks, self.audio_channels)

    @property
    def padding(self) -> int:
        """The token for the places of a column that hold no frame's code."""
        return self.vocabulary


class Attention(Protocol):
    """Attention of a batch of rows, with the cache of its keys and values; `...` stands for the rows' axes."""

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Self-attention, which stores the new keys and values: `[..., 3, heads, head_dim]` to `[..., dim]`."""

    def attend_condition(self, layer: int, query: Tensor) -> Tensor:
        """Cross-attention: `[..., heads, head_dim]` to `[..., dim]`."""


class Layer(nn.Module):
    """Self-attention, cross-attention (in text models) and feed-forward, each with a pre-norm and a residual."""

    def __init__(self, config: LanguageModelConfig, index: int) -> None:
        super().__init__()
        dim = config.dim
        self.index = index
        self.heads = (config.heads, config.head_dim)
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = PackedLinear(dim, 3 * dim)
        self.attention_out = PackedLinear(dim, dim)
        self.has_condition = not config.is_melody
        if self.has_condition:
            self.condition_norm = nn.LayerNorm(dim)
            self.condition_query = PackedLinear(dim, dim)
            self.condition_kv = PackedLinear(dim, 2 * dim)
            self.condition_out = PackedLinear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward_in = PackedLinear(dim, config.ffn_dim)
        self.feed_forward_out = PackedLinear(config.ffn_dim, dim)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, attention: Attention, adapters: Adapters | None = None) -> Tensor:
        """Compute the layer: `[..., dim]` to `[..., dim]`."""
        qkv = self.qkv(self.attention_norm(x), adapters).view(*x.shape[:-1], 3, *self.heads)
        x = x + self.attention_out(attention.attend(self.index, qkv), adapters)
        if self.has_condition:
            query = self.condition_query(self.condition_norm(x), adapters).view(*x.shape[:-1], *self.heads)
            x = x + self.condition_out(attention.attend_condition(self.index, query), adapters)
        inner = self.activation(self.feed_forward_in(self.feed_forward_norm(x), adapters))
        out: Tensor = x + self.feed_forward_out(inner, adapters)
        return out

    def condition_keys_values(self, condition: Tensor, adapters: Adapters | None = None) -> Tensor:
        """Keys and values of cross-attention: `[tokens, dim]` to `[2, heads, tokens, head_dim]`."""
        keys_values: Tensor = self.condition_kv(condition, adapters)
        return keys_values.view(-1, 2, *self.heads).permute(1, 2, 0, 3)


class LanguageModel(nn.Module):
    """Turns columns of codes into logits for the next column; for inference only."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        # The tables of all codebooks, each with a row for the padding token, are stacked: one look-up serves all.
        self.embedding = nn.Parameter(torch.empty(config.codebooks * (config.vocabulary + 1), config.dim))
        self.text_projection = _projection(config.text_dim, config.dim)
        if config.chroma_bins is not None:
            self.chroma_projection = _projection(config.chroma_bins, config.dim)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.head = PackedLinear(config.dim, config.codebooks * config.vocabulary)
        for name, module in self.named_modules():
            if isinstance(module, PackedLinear):
                module.name = name
        self.requires_grad_(False)
        self.kernels: Kernels | None = None
        """What its weights have been packed for; None: for torch, or not at all."""
        self.int8 = False
        """Whether they have been packed in 8 bits."""
        self.size = sum(parameter.numel() for parameter in self.parameters())
        """Number of parameters, packed or not."""

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights and of the computation, unless they are packed as int8."""
        return self.embedding.dtype

    def pack(self, *, int8: bool = False, kernels: Kernels | None = None) -> None:
        """Pack all `PackedLinear` weights for fast decoding on a CPU (see `PackedLinear.pack`). Irreversible.

        Embeddings, norms and the projections of conditions stay as they are.
        """
        for module in self.modules():
            if isinstance(module, PackedLinear):
                module.pack(int8=int8, kernels=kernels)
        self.kernels, self.int8 = kernels, int8

    def embed(self, tokens: Tensor, adapters: Adapters | None = None) -> Tensor:
        """Sum the codebooks' embeddings, without positions: int64 `[..., codebooks]` to `[..., dim]`."""
        rows = tokens + torch.arange(self.config.codebooks, device=tokens.device) * (self.config.vocabulary + 1)
        embedded = F.embedding(rows, self.embedding).sum(-2)
        return embedded if adapters is None else adapters.embed(rows, embedded)

    def forward(self, x: Tensor, attention: Attention, adapters: Adapters | None = None) -> Tensor:
        """Run all layers: embedded columns with their positions, `[..., dim]` to `[..., dim]`."""
        for layer in self.layers:
            x = layer(x, attention, adapters)
        out: Tensor = self.norm(x)
        return out

    def logits(self, x: Tensor, adapters: Adapters | None = None) -> Tensor:
        """Logits of the next column: `[..., dim]` to `[..., codebooks, vocabulary]`."""
        stacked: Tensor = self.head(x, adapters)
        return stacked.view(*x.shape[:-1], self.config.codebooks, self.config.vocabulary)

    def condition_keys_values(self, condition: Tensor) -> list[Tensor]:
        """Each layer's cross-attention keys and values, `[2, heads, tokens, head_dim]`; for text models.

        `condition`: `[tokens, dim]`.
        """
        return [layer.condition_keys_values(condition) for layer in self.layers if isinstance(layer, Layer)]


def _projection(inputs: int, dim: int) -> nn.Module:
    """The projection from a condition's width to the model's; checkpoints have no weights for it where they agree."""
    return nn.Identity() if inputs == dim else nn.Linear(inputs, dim)


def position_table(positions: int, dim: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoidal positions `[positions, dim]`: all cosines, then all sines; an odd last column is 0."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
    angles = torch.arange(positions).float().unsqueeze(1) * frequencies
    table = F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))
    return table.to(device=device, dtype=dtype)
