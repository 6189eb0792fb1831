"""The codec's networks, encoder and decoder, made from a model folder's weights.

Each is a SEANet (Tagliasacchi et al., "SEANet: A Multi-modal Speech Enhancement Network", 2020,
https://arxiv.org/abs/2009.02095) with an LSTM at its narrow end.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from musicgen_core.codec.checkpoint import CodecConfig, Weights
from musicgen_core.codec.convolution import Convolution, Padding, Upsampling
from musicgen_core.codec.layer import Activation, Chain, Layer, Residual
from musicgen_core.codec.lstm import LSTM


def computes_in_pieces(config: CodecConfig) -> bool:
    """Whether the layers here can compute it: none looks at the whole signal, as a norm over time does."""
    return config.norm_type == "weight_norm" and config.pad_mode in ("constant", "reflect")


def read_encoder(config: CodecConfig, weights: Weights) -> Layer:
    """Samples `[rows, channels, 1]` to latents `[rows, channels, dim]`. Raises CheckpointError."""
    network, width = _Network(config, weights, "encoder"), config.num_filters
    network.add_convolution(config.audio_channels, width, config.kernel_size)
    for ratio in reversed(config.upsampling_ratios):
        network.add_residuals(width)
        network.add_activation()
        network.add_convolution(width, 2 * width, 2 * ratio, stride=ratio)
        width *= 2
    network.add_lstm(width)
    network.add_activation()
    network.add_convolution(width, config.hidden_size, config.last_kernel_size)
    return Chain(network.layers)


def read_decoder(config: CodecConfig, weights: Weights) -> Layer:
    """The way back. Raises CheckpointError."""
    network, width = _Network(config, weights, "decoder"), config.num_filters * 2 ** len(config.upsampling_ratios)
    network.add_convolution(config.hidden_size, width, config.kernel_size)
    network.add_lstm(width)
    for ratio in config.upsampling_ratios:
        network.add_activation()
        network.add_upsampling(width, width // 2, ratio)
        width //= 2
        network.add_residuals(width)
    network.add_activation()
    network.add_convolution(width, config.audio_channels, config.last_kernel_size)
    return Chain(network.layers)


class _Network:
    """The layers so far, in a checkpoint's order: there, each is named by its number."""

    def __init__(self, config: CodecConfig, weights: Weights, name: str) -> None:
        self.layers: list[Layer] = []
        self._config = config
        self._weights = weights
        self._network = name

    @property
    def _next(self) -> str:
        """The next layer's name."""
        return f"{self._network}.layers.{len(self.layers)}"

    def add_activation(self) -> None:
        self.layers.append(Activation())

    def add_convolution(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        self.layers.append(self._convolution(self._next, inputs, outputs, kernel, stride=stride))

    def add_upsampling(self, inputs: int, outputs: int, stride: int) -> None:
        weight = self._weights.take_normed(f"{self._next}.conv", inputs, outputs, 2 * stride)
        bias = self._weights.take(f"{self._next}.conv.bias", outputs)
        causal = self._config.use_causal_conv
        after = math.ceil(stride * self._config.trim_right_ratio) if causal else stride // 2
        self.layers.append(Upsampling(weight, bias, trimmed=(stride - after, after)))

    def add_lstm(self, dim: int) -> None:
        with torch.device("meta"):
            lstm = nn.LSTM(dim, dim, self._config.num_lstm_layers)
        state = {
            name: self._weights.take(f"{self._next}.lstm.{name}", *tensor.shape)
            for name, tensor in lstm.state_dict().items()
        }
        lstm.load_state_dict(state, assign=True)
        # One piece of memory for all, which cuDNN wants.
        lstm.requires_grad_(False).flatten_parameters()
        self.layers.append(LSTM(lstm))

    def add_residuals(self, dim: int) -> None:
        config, hidden = self._config, dim // self._config.compress
        for index in range(config.num_residual_layers):
            name, dilation = self._next, config.dilation_growth_rate**index
            inner = self._convolution(f"{name}.block.1", dim, hidden, config.residual_kernel_size, dilation=dilation)
            outer = self._convolution(f"{name}.block.3", hidden, dim, 1)
            shortcut = self._convolution(f"{name}.shortcut", dim, dim, 1) if config.use_conv_shortcut else None
            self.layers.append(Residual(Chain([Activation(), inner, Activation(), outer]), shortcut))

    def _convolution(
        self, name: str, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1
    ) -> Convolution:
        padding = (kernel - 1) * dilation + 1 - stride
        after = 0 if self._config.use_causal_conv else padding // 2
        return Convolution(
            self._weights.take_normed(f"{name}.conv", outputs, inputs, kernel),
            self._weights.take(f"{name}.conv.bias", outputs),
            padding=(padding - after, after),
            mode=cast(Padding, self._config.pad_mode),
            stride=stride,
            dilation=dilation,
        )
