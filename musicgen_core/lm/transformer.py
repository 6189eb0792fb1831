"""MusicGen's language model (https://arxiv.org/abs/2306.05284): a pre-norm transformer over columns of codes.

Two kinds. *Text* models read the text through cross-attention. *Melody* models have none: projected chroma
and text vectors stand before the columns. The modules know nothing of caches, slots or requests: keys and
values live behind the `Attention` they are given, so one definition serves prefill and every way of decoding.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_core.lm.delay_pattern import codebook_delays
from musicgen_core.lm.linear import PackedLinear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
"""The feed-forward activations by their names in a checkpoint's config."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """The shape of a language model and of the codes it speaks.

    vocabulary: tokens a codebook; its value is also the padding token's id. text_dim: width of the text
    encoder's states. chroma_bins, chroma_frames: of the melody; None in text models. frame_rate: frames a
    second.
    sample_rate: of the audio, Hz.
    """

    layers: int
    dim: int
    heads: int
    ffn_dim: int
    activation: str
    codebooks: int
    vocabulary: int
    audio_channels: int
    text_dim: int
    chroma_bins: int | None
    chroma_frames: int | None
    frame_rate: int
    sample_rate: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    @property
    def is_melody(self) -> bool:
        """Whether conditions are put before the sequence instead of read through cross-attention."""
        return self.chroma_bins is not None

    @property
    def delays(self) -> tuple[int, ...]:
        """Each codebook's delay in frames."""
        return codebook_delays(self.codebooks, self.audio_channels)

    @property
    def padding(self) -> int:
        """The token that fills a column where no frame's code stands."""
        return self.vocabulary


class Attention(Protocol):
    """Where a layer's keys and values are kept and looked up; `...` is whatever the rows are."""

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Self-attention, keeping the new keys and values; [..., 3, heads, head_dim] -> [..., dim]."""

    def attend_condition(self, layer: int, query: Tensor) -> Tensor:
        """Cross-attention: [..., heads, head_dim] -> [..., dim]."""


class Layer(nn.Module):
    """Self-attention, cross-attention (text models), feed-forward; each normed before and added after."""

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

    def forward(self, x: Tensor, attention: Attention) -> Tensor:
        """[..., dim] -> [..., dim]."""
        qkv = self.qkv(self.attention_norm(x)).view(*x.shape[:-1], 3, *self.heads)
        x = x + self.attention_out(attention.attend(self.index, qkv))
        if self.has_condition:
            query = self.condition_query(self.condition_norm(x)).view(*x.shape[:-1], *self.heads)
            x = x + self.condition_out(attention.attend_condition(self.index, query))
        inner = self.activation(self.feed_forward_in(self.feed_forward_norm(x)))
        out: Tensor = x + self.feed_forward_out(inner)
        return out

    def condition_keys_values(self, condition: Tensor) -> Tensor:
        """What cross-attention looks up: [tokens, dim] -> [2, heads, tokens, head_dim]."""
        keys_values: Tensor = self.condition_kv(condition)
        return keys_values.view(-1, 2, *self.heads).permute(1, 2, 0, 3)


class LanguageModel(nn.Module):
    """Columns of codes in, logits for the next column out; for inference only."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        # All codebooks' tables (each with a row for the padding token) stacked, so that one look-up serves
        # all.
        self.embedding = nn.Parameter(torch.empty(config.codebooks * (config.vocabulary + 1), config.dim))
        self.text_projection = _projection(config.text_dim, config.dim)
        if config.chroma_bins is not None:
            self.chroma_projection = _projection(config.chroma_bins, config.dim)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.head = PackedLinear(config.dim, config.codebooks * config.vocabulary)
        self.requires_grad_(False)
        self.size = sum(parameter.numel() for parameter in self.parameters())
        """Parameters, packed or not."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept and multiplied in."""
        return self.embedding.dtype

    def pack(self, *, int8: bool = False) -> None:
        """Lay the weights out for fast decoding on a CPU; does nothing where that does not apply.
        Irreversible. `int8`: see `PackedLinear`; embeddings, norms and projections stay as they are.
        """
        for module in self.modules():
            if isinstance(module, PackedLinear):
                module.pack(int8=int8)

    def embed(self, tokens: Tensor) -> Tensor:
        """Sum the codebooks' embeddings: tokens int64 [..., codebooks] -> [..., dim]; no position yet."""
        tables = torch.arange(self.config.codebooks, device=tokens.device) * (self.config.vocabulary + 1)
        return F.embedding(tokens + tables, self.embedding).sum(-2)

    def forward(self, x: Tensor, attention: Attention) -> Tensor:
        """Run all layers: embedded columns with their positions [..., dim] -> [..., dim]."""
        for layer in self.layers:
            x = layer(x, attention)
        out: Tensor = self.norm(x)
        return out

    def logits(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., codebooks, vocabulary]."""
        stacked: Tensor = self.head(x)
        return stacked.view(*x.shape[:-1], self.config.codebooks, self.config.vocabulary)

    def condition_keys_values(self, condition: Tensor) -> list[Tensor]:
        """Text models: each layer's cross-attention keys and values, [2, heads, tokens, head_dim]."""
        return [layer.condition_keys_values(condition) for layer in self.layers if isinstance(layer, Layer)]


def _projection(inputs: int, dim: int) -> nn.Module:
    """From a condition's width to the model's; checkpoints carry no weights where they agree."""
    return nn.Identity() if inputs == dim else nn.Linear(inputs, dim)


def position_table(positions: int, dim: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoidal positions [positions, dim]: all cosines, then all sines (an odd last column stays 0)."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
    angles = torch.arange(positions).float().unsqueeze(1) * frequencies
    table = F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))
    return table.to(device=device, dtype=dtype)
