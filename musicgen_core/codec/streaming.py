"""EnCodec's decoder on tokens that are still being made: sound as soon as it can no longer change.

The decoder is a convolution, an LSTM, and a stack of convolutions that make samples of frames. EnCodec at 32 kHz is
not causal: a convolution's output also depends on what follows. So each convolution stack waits for the frames that
its outputs depend on (its reach, 3 and 2 frames), keeps as many of the past, and computes only what is new; the LSTM's
state is carried on. What comes out, put together, is what the whole decode gives, up to rounding.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class GrowingDecoder:
    """The decoder of one piece of music. `layers`: those of EnCodec's decoder; `hop`: samples a frame."""

    def __init__(self, layers: Iterable[nn.Module], *, hop: int) -> None:
        layers = list(layers)
        lstm = next(position for position, layer in enumerate(layers) if hasattr(layer, "lstm"))
        self._before = _Growing(layers[:lstm], samples=1)
        self._lstm: Any = layers[lstm].lstm
        self._state: tuple[Tensor, Tensor] | None = None
        self._after = _Growing(layers[lstm + 1 :], samples=hop)

    @torch.inference_mode()
    def push(self, latents: Tensor, *, last: bool) -> Tensor:
        """Take the next latents `[channels, dim, frames]`; the samples `[channels, 1, samples]` that are final now.

        No samples come before enough frames have followed them, or `last` says that none will.
        """
        x = self._before.push(latents, last=last)
        return self._after.push(self._remember(x), last=last) if x.shape[-1] else x

    def _remember(self, x: Tensor) -> Tensor:
        """The LSTM, with the shortcut around it, from where it stopped: `[channels, dim, frames]` in and out."""
        sequence = x.permute(2, 0, 1)
        out, self._state = self._lstm(sequence, self._state)
        remembered: Tensor = (out + sequence).permute(1, 2, 0)
        return remembered


class _Growing:
    """Convolutions over a signal that grows, `[..., frames]` to `[..., samples * frames]`."""

    def __init__(self, layers: Iterable[nn.Module], *, samples: int) -> None:
        self._layers = nn.Sequential(*layers)
        self._samples = samples
        self._reach = reach(self._layers)
        self._seen: Tensor | None = None
        self._first = 0  # the frame that _seen begins with
        self._given = 0  # frames whose samples have been given

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        """The samples that no later frame can change."""
        seen = x if self._seen is None else torch.cat([self._seen, x], dim=-1)
        end = self._first + seen.shape[-1]
        ready = end if last else max(self._given, end - self._reach)
        begin, stop = self._given - self._first, ready - self._first
        out = x[..., :0]
        if stop > begin:
            out = self._layers(seen)[..., begin * self._samples : stop * self._samples]
        kept = max(0, stop - self._reach)
        self._seen, self._first, self._given = seen[..., kept:], self._first + kept, ready
        return out


def reach(layers: nn.Module) -> int:
    """Frames to either side on which an output of EnCodec layers may depend; endless where all matter to all."""
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
