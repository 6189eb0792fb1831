"""The codec in a model folder: its shape, and its weights by the names that they have had.

The layout is that of transformers' EncodecModel. It is read here because transformers' import takes longer than
everything else that loads a model; tests hold the result to transformers' numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from musicgen_core.errors import CheckpointError


@dataclass(frozen=True)
class CodecConfig:
    """The section `audio_encoder` of a config.json, with transformers' names and defaults (EncodecConfig)."""

    target_bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0)
    sampling_rate: int = 24_000
    audio_channels: int = 1
    normalize: bool = False
    chunk_length_s: float | None = None
    hidden_size: int = 128
    num_filters: int = 32
    num_residual_layers: int = 1
    upsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)
    norm_type: str = "weight_norm"
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    use_causal_conv: bool = True
    pad_mode: str = "reflect"
    compress: int = 2
    num_lstm_layers: int = 2
    trim_right_ratio: float = 1.0
    codebook_size: int = 1024
    codebook_dim: int | None = None
    use_conv_shortcut: bool = True

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> Self:
        """Read the fields that are known here. Raises CheckpointError for sizes that no codec has."""
        config = cls(**{field.name: section[field.name] for field in fields(cls) if field.name in section})
        try:
            config._check()
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"config.json's audio_encoder: {error}") from error
        return config

    def _check(self) -> None:
        sizes = (
            self.sampling_rate, self.audio_channels, self.hidden_size, self.num_filters, self.kernel_size,
            self.last_kernel_size, self.residual_kernel_size, self.dilation_growth_rate, self.compress,
            self.num_lstm_layers, self.width, *self.upsampling_ratios,
        )  # fmt: skip
        if min(sizes) < 1 or self.codebook_size < 2 or not self.target_bandwidths:
            raise ValueError("sizes must be positive, codebook_size 2 or more, and target_bandwidths not empty")

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsampling_ratios)

    @property
    def width(self) -> int:
        """Of the vectors in the codebooks."""
        return self.hidden_size if self.codebook_dim is None else self.codebook_dim

    @property
    def quantizers(self) -> int:
        """Codebooks of a channel."""
        frame_rate, bits = math.ceil(self.sampling_rate / self.hop), math.ceil(math.log2(self.codebook_size))
        return int(1000 * self.target_bandwidths[-1] // (frame_rate * bits))


class Weights:
    """The tensors of an EncodecModel, taken by name, in float32 on the device."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self._tensors = tensors
        self._device = device

    def take(self, name: str, *shape: int) -> Tensor:
        """A copy of one tensor, which has this shape. Raises CheckpointError."""
        found = self._tensors.get(name)
        if found is None:
            raise CheckpointError(f"The model folder lacks EnCodec's {name}.")
        if found.shape != shape:
            raise CheckpointError(
                f"The model folder has another shape of EnCodec's {name}: {list(found.shape)}; by config.json it is "
                f"{list(shape)}."
            )
        # Copied, so that nothing depends on the file any more.
        return found.to(self._device, torch.float32, copy=True)

    def take_normed(self, name: str, *shape: int) -> Tensor:
        """A convolution's weight, stored as lengths and directions (Salimans & Kingma, 2016). Raises CheckpointError.

        Official checkpoints say weight_g and weight_v where torch now says parametrizations.
        """
        lengths, directions = f"{name}.weight_g", f"{name}.weight_v"
        if lengths not in self._tensors:
            lengths, directions = (f"{name}.parametrizations.weight.original{index}" for index in (0, 1))
        direction = self.take(directions, *shape)
        norm: Tensor = torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
        return direction * (self.take(lengths, shape[0], 1, 1) / norm)
