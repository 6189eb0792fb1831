"""The codec's networks, encoder and decoder, made of the layers of transformers' EncodecModel.

Each is a SEANet (Tagliasacchi et al., "SEANet: A Multi-modal Speech Enhancement Network", 2020,
https://arxiv.org/abs/2009.02095) with an LSTM at its narrow end. The weights are taken out of the loaded model, their
norms folded in once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from musicgen_core.codec.convolution import Convolution, Upsampling
from musicgen_core.codec.layer import Activation, Chain, Layer, Residual, State
from musicgen_core.codec.lstm import LSTM


@torch.no_grad()
def read_network(network: Any, config: Any) -> Layer:
    """The layers of transformers' EncodecEncoder or EncodecDecoder, which can compute a signal piece by piece.

    A config whose layers look at the whole signal, or pad it in another way, keeps transformers' own: see `Whole`.
    """
    if config.norm_type != "weight_norm" or config.pad_mode not in ("constant", "reflect"):
        return Whole(network)
    return _chain(network.layers)


class Whole:
    """A network that computes nothing before the signal has ended."""

    rate = 1.0
    multiply_adds = 0.0
    """It cannot be divided."""

    def __init__(self, network: Any) -> None:
        """`network`: transformers', `[channels, features, rows]` in and out."""
        self._network = network
        self._features: int = network.layers[-1].conv.out_channels

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:
        """See `Layer.push`."""
        pieces = [*(state or []), x]
        if not last:
            return x.new_empty(0, x.shape[1], self._features), pieces
        out: Tensor = self._network(torch.cat(pieces).permute(1, 2, 0))
        return out.permute(2, 0, 1), None


def _chain(modules: Any) -> Chain:
    return Chain([_layer(module) for module in modules])


def _layer(module: Any) -> Layer:
    # Told apart by their parts: to import transformers takes seconds, and this module is imported with the engine.
    if isinstance(module, nn.ELU):
        return Activation()
    if hasattr(module, "lstm"):
        return LSTM(module.lstm)
    if hasattr(module, "block"):
        direct = isinstance(module.shortcut, nn.Identity)
        return Residual(_chain(module.block), None if direct else _layer(module.shortcut))
    return _upsampling(module) if isinstance(module.conv, nn.ConvTranspose1d) else _convolution(module)


def _convolution(module: Any) -> Convolution:
    conv = module.conv
    stride, dilation = conv.stride[0], conv.dilation[0]
    padding = (conv.kernel_size[0] - 1) * dilation + 1 - stride
    after = 0 if module.causal else padding // 2
    return Convolution(
        conv.weight,
        conv.bias,
        padding=(padding - after, after),
        mode=module.pad_mode,
        stride=stride,
        dilation=dilation,
    )


def _upsampling(module: Any) -> Upsampling:
    conv = module.conv
    stride = conv.stride[0]
    after = math.ceil(stride * module.trim_right_ratio) if module.causal else stride // 2
    return Upsampling(conv.weight, conv.bias, trimmed=(stride - after, after))
