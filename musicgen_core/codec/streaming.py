"""EnCodec's decoder on tokens that are still being generated: samples as soon as they can no longer change.

The decoder is a convolution, an LSTM, and a stack of convolutions that turn frames into samples. EnCodec at 32 kHz is
not causal: a convolution's output also depends on later frames. So each stack of convolutions waits for the frames in
its receptive field (3 and 2 to either side), keeps as many past ones, and computes only what is new; the LSTM's state
is carried over. The chunks together equal the decoded whole, up to rounding.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class StreamingDecoder:
    """Decodes one piece of music while its codes are being generated."""

    def __init__(self, to_latents: Callable[[Tensor], Tensor], layers: Iterable[nn.Module], *, hop: int) -> None:
        """Start a piece.

        `to_latents`: codes `[codebooks, frames]` to latents `[channels, dim, frames]`. `layers`: those of EnCodec's
        decoder. `hop`: samples per frame.
        """
        layers = list(layers)
        lstm = next(position for position, layer in enumerate(layers) if hasattr(layer, "lstm"))
        self._to_latents = to_latents
        self._frames = 0
        self._before = _StreamingConvolutions(layers[:lstm], samples=1)
        self._lstm: Any = layers[lstm].lstm
        self._state: tuple[Tensor, Tensor] | None = None
        self._after = _StreamingConvolutions(layers[lstm + 1 :], samples=hop)

    @torch.inference_mode()
    def push(self, codes: Tensor, *, last: bool = False) -> Tensor:
        """The next samples `[channels, samples]` that are final, maybe none.

        `codes`: all codes so far, `[codebooks, frames]`, some of them new. `last`: no more will follow.
        """
        latents = self._to_latents(codes[:, self._frames :])
        self._frames = codes.shape[1]
        x = self._before.push(latents, last=last)
        if x.shape[-1]:
            x = self._after.push(self._run_lstm(x), last=last)
        return x[:, 0]

    def _run_lstm(self, x: Tensor) -> Tensor:
        """The LSTM with its shortcut, continued from its last state: `[channels, dim, frames]` in and out."""
        sequence = x.permute(2, 0, 1)
        out, self._state = self._lstm(sequence, self._state)
        remembered: Tensor = (out + sequence).permute(1, 2, 0)
        return remembered


class _StreamingConvolutions:
    """Convolutions over a signal that arrives in parts, `[..., frames]` to `[..., samples * frames]`."""

    def __init__(self, layers: Iterable[nn.Module], *, samples: int) -> None:
        self._layers = nn.Sequential(*layers)
        self._samples = samples
        self._context = receptive_field(self._layers)
        self._kept: Tensor | None = None
        """The end of the input so far, from frame `_first` on."""
        self._first = 0
        self._done = 0
        """Frames whose samples have been returned."""

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        """The samples that no later frame can change."""
        kept = x if self._kept is None else torch.cat([self._kept, x], dim=-1)
        end = self._first + kept.shape[-1]
        ready = end if last else max(self._done, end - self._context)
        begin, stop = self._done - self._first, ready - self._first
        out = x[..., :0]
        if stop > begin:
            out = self._layers(kept)[..., begin * self._samples : stop * self._samples]
        dropped = max(0, stop - self._context)
        self._kept, self._first, self._done = kept[..., dropped:], self._first + dropped, ready
        return out


def receptive_field(layers: nn.Module) -> int:
    """Frames to either side that an output of EnCodec layers may depend on; `sys.maxsize` where it is all of them."""
    frames, rate = 0.0, 1
    layer: Any
    for layer in layers.modules():
        if isinstance(layer, nn.GroupNorm):
            return sys.maxsize  # it normalises over the whole signal
        if not hasattr(layer, "conv"):
            continue
        # A convolution that is not causal looks half its kernel's width to either side.
        share = 1.0 if layer.causal else 0.5
        kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        if isinstance(layer.conv, nn.ConvTranspose1d):
            frames += share * kernel / stride / rate
            rate *= stride
        else:
            frames += math.ceil(share * (kernel - 1) * layer.conv.dilation[0]) / rate
    return math.ceil(frames)
