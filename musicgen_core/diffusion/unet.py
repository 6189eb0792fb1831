"""The network of MultiBand Diffusion: a U-Net over samples that estimates the noise in them.

San Roman et al., "From Discrete Tokens to High-Fidelity Audio Using Multi-Band Diffusion"
(2023, https://arxiv.org/abs/2308.02560). Parameters have the names of audiocraft's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRANSFORMER_HEADS, TRANSFORMER_LAYERS, TRANSFORMER_FEED_FORWARD = 8, 6, 2048
LONGEST_PERIOD = 10_000.0
"""Longest period of the sinusoidal positions, in frames."""


@dataclass(frozen=True)
class UnetConfig:
    """The network's shape. Raises ValueError where the sizes do not fit each other."""

    num_steps: int
    """Number of noise levels."""
    hidden: int = 24
    """Channels of the first layer."""
    depth: int = 3
    """Number of layers, downwards and upwards."""
    growth: float = 2.0
    """Factor from one layer's channels to the next layer's."""
    max_channels: int = 10_000
    """The most channels that a layer has."""
    kernel: int = 4
    """Kernel size of the convolutions between layers."""
    stride: int = 2
    """Stride of the convolutions between layers."""
    norm_groups: int = 4
    """Groups of the group normalisation."""
    res_blocks: int = 1
    """Residual blocks per layer."""
    emb_all_layers: bool = False
    """Every layer gets an embedding of the noise level, not only the first."""
    codec_dim: int | None = None
    """Width of the codec's latents, which are added at the bottom; None: the network does without."""
    bilstm: bool = False
    """A bidirectional LSTM at the bottom."""
    transformer: bool = False
    """A transformer at the bottom."""
    cross_attention: bool = False
    """The transformer attends to the latents, which are then not added."""

    def __post_init__(self) -> None:
        if min(self.num_steps, self.hidden, self.depth, self.stride, self.norm_groups) < 1 or self.res_blocks < 0:
            raise ValueError("the network's sizes must be positive")
        if self.kernel < self.stride or (self.kernel - self.stride) % 2:
            raise ValueError(f"a kernel of {self.kernel} does not go with a stride of {self.stride}")
        if any(width % self.norm_groups for width in self.widths):
            raise ValueError(f"{self.norm_groups} groups do not divide the channels {self.widths}")
        if self.transformer and self.widths[-1] % TRANSFORMER_HEADS:
            raise ValueError(f"{TRANSFORMER_HEADS} attention heads do not divide {self.widths[-1]} channels")
        if self.transformer and self.cross_attention and self.codec_dim is None:
            raise ValueError("there are no latents for the cross-attention to read: codec_dim is missing")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each layer, from the first to the last."""
        widths = [self.hidden]
        for _ in range(self.depth - 1):
            widths.append(min(int(widths[-1] * self.growth), self.max_channels))
        return tuple(widths)


class DiffusionUnet(nn.Module):
    """Estimates the noise in samples from its level and the codec's latents."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        around = list(zip((1, *widths[:-1]), widths, strict=True))
        self.encoders = nn.ModuleList(_Encoder(config, outer, inner) for outer, inner in around)
        self.decoders = nn.ModuleList(_Decoder(config, inner, outer) for outer, inner in reversed(around))
        self.embedding = _StepEmbedding(config.num_steps, widths[0])
        deeper = widths[1:] if config.emb_all_layers else ()
        self.embeddings = nn.ModuleList(_StepEmbedding(config.num_steps, width) for width in deeper)
        dim = widths[-1]
        self.conv_codec = None if config.codec_dim is None else nn.Conv1d(config.codec_dim, dim, 1)
        self.bilstm = _BiLstm(dim) if config.bilstm else None
        self.transformer = _Transformer(dim, config.cross_attention) if config.transformer else None
        self._attends_to_latents = config.transformer and config.cross_attention

    def forward(self, noisy: Tensor, step: Tensor, latents: Tensor) -> Tensor:
        """The noise in `noisy`, both `[batch, 1, samples]`.

        `step`: noise level, int64 `[batch]`; 0 is the least noise. `latents`: `[batch, dim, frames]`.
        """
        x = noisy
        skips: list[Tensor] = []
        for depth, encoder in enumerate(self.encoders):
            x = encoder(x)
            if depth == 0:
                x = x + self.embedding(step)[:, :, None]
            elif self.embeddings:
                x = x + self.embeddings[depth - 1](step)[:, :, None]
            skips.append(x)
        x, skips[-1] = self._bottom(x, latents)
        for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
            x = decoder(x[..., : skip.shape[-1]] + skip)
        return x[..., : noisy.shape[-1]]

    def _bottom(self, x: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The bottom's output and its skip connection; the latents are added to both.

        The reference adds them in place, so that they are in the skip too. With neither LSTM nor transformer the output
        is zero, and the skip alone goes up.
        """
        condition = None if self.conv_codec is None else self.conv_codec(latents)
        if condition is not None and not self._attends_to_latents:
            x = x + F.interpolate(condition, x.shape[-1])
        if self.transformer is not None:
            return self.transformer(x, condition), x
        return torch.zeros_like(x) if self.bilstm is None else self.bilstm(x), x


class _StepEmbedding(nn.Embedding):
    """A vector for each noise level."""

    def reset_parameters(self) -> None:
        """Fill the table, unless there is none yet: to fill nothing, torch would import its whole compiler."""
        if not self.weight.is_meta:
            super().reset_parameters()


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, norm_groups: int, dilation: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, channels)
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.norm2 = nn.GroupNorm(norm_groups, channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.relu(self.norm1(x)))
        changed: Tensor = x + self.conv2(F.relu(self.norm2(hidden)))
        return changed


def _residual_blocks(config: UnetConfig, channels: int) -> nn.Sequential:
    return nn.Sequential(*(_ResidualBlock(channels, config.norm_groups, 2**i) for i in range(config.res_blocks)))


class _Encoder(nn.Module):
    """One layer down: `[batch, outer, samples]` to `[batch, inner, ceil(samples / stride)]`."""

    def __init__(self, config: UnetConfig, outer: int, inner: int) -> None:
        super().__init__()
        self._stride = config.stride
        padding = (config.kernel - config.stride) // 2
        self.conv = nn.Conv1d(outer, inner, config.kernel, config.stride, padding, bias=False)
        self.norm = nn.GroupNorm(config.norm_groups, inner)
        self.res_blocks = _residual_blocks(config, inner)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[-1] % self._stride))
        hidden: Tensor = self.res_blocks(F.relu(self.norm(self.conv(x))))
        return hidden


class _Decoder(nn.Module):
    """One layer up: `[batch, inner, frames]` to `[batch, outer, frames * stride]`."""

    def __init__(self, config: UnetConfig, inner: int, outer: int) -> None:
        super().__init__()
        padding = (config.kernel - config.stride) // 2
        self.res_blocks = _residual_blocks(config, inner)
        self.norm = nn.GroupNorm(config.norm_groups, inner)
        self.convtr = nn.ConvTranspose1d(inner, outer, config.kernel, config.stride, padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        up: Tensor = self.convtr(F.relu(self.norm(self.res_blocks(x))))
        return up


class _BiLstm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, num_layers=2, bidirectional=True)
        self.linear = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.linear(self.lstm(x.permute(2, 0, 1))[0])
        return mixed.permute(1, 2, 0)


class _Transformer(nn.Module):
    """Post-norm layers over `[batch, dim, frames]`, which may attend to a condition `[batch, dim, frames]`."""

    def __init__(self, dim: int, cross_attention: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TransformerLayer(dim, cross_attention) for _ in range(TRANSFORMER_LAYERS))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = _with_positions(x.transpose(1, 2))
        read = None if condition is None else _with_positions(condition.transpose(1, 2))
        for layer in self.layers:
            x = layer(x, read)
        return x.transpose(1, 2)


class _TransformerLayer(nn.Module):
    def __init__(self, dim: int, cross_attention: bool) -> None:
        super().__init__()
        self.self_attn = _attention(dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attention = _attention(dim) if cross_attention else None
        self.norm_cross = nn.LayerNorm(dim) if cross_attention else None
        self.linear1 = nn.Linear(dim, TRANSFORMER_FEED_FORWARD, bias=False)
        self.linear2 = nn.Linear(TRANSFORMER_FEED_FORWARD, dim, bias=False)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, given: Tensor, read: Tensor | None) -> Tensor:
        x = self.norm1(given + self.self_attn(given, given, given, need_weights=False)[0])
        if self.cross_attention is not None and self.norm_cross is not None:
            # As in the reference, the queries are the layer's input, not the output of its self-attention.
            x = self.norm_cross(x + self.cross_attention(given, read, read, need_weights=False)[0])
        out: Tensor = self.norm2(x + self.linear2(F.relu(self.linear1(x))))
        return out


def _attention(dim: int) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(dim, TRANSFORMER_HEADS, bias=False, batch_first=True)


def _with_positions(x: Tensor) -> Tensor:
    """Add the cosines and sines of the positions to `[batch, frames, dim]`."""
    half = x.shape[-1] // 2
    periods = torch.tensor(LONGEST_PERIOD, device=x.device) ** (torch.arange(half, device=x.device) / (half - 1))
    phases = torch.arange(x.shape[1], device=x.device)[:, None] / periods
    return x + torch.cat([phases.cos(), phases.sin()], dim=-1)
