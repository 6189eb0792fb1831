"""What the layers of the codec's networks have in common: each computes a signal piece by piece.

Signals are `[rows, channels, features]`: time first, then a stereo model's channels, which are separate sounds. So any
stretch of time is contiguous memory, and a convolution is a few matrix products of such stretches, without copies.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

State = Any
"""What a layer remembers of one signal between two pieces; None before the first. Replaced, never changed."""


class Layer(Protocol):
    """A layer of a network. It holds weights and no state, so any number of signals can go through it."""

    rate: float
    """Rows that come out for each row that goes in."""
    multiply_adds: float
    """Multiply-adds for each row that goes in, and each channel."""

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:
        """What is certain by now of the output that has not come out yet, maybe no rows, and the new state.

        `x`: the signal's next rows, maybe none. `last`: no more will follow.
        """


class Activation:
    """ELU."""

    rate = 1.0
    multiply_adds = 0.0

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:  # noqa: ARG002
        """See `Layer.push`."""
        return F.elu(x), state


class Chain:
    """Layers one after the other."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        self.rate, self.multiply_adds = 1.0, 0.0
        for layer in layers:
            self.multiply_adds += self.rate * layer.multiply_adds
            self.rate *= layer.rate

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:
        """See `Layer.push`."""
        states = []
        for layer, before in zip(self._layers, state or [None] * len(self._layers), strict=True):
            x, after = layer.push(x, before, last=last)
            states.append(after)
        return x, states


class Residual:
    """A block of layers whose input is added to their output."""

    rate = 1.0

    def __init__(self, block: Layer, shortcut: Layer | None) -> None:
        """`block`: may come out later than it goes in. `shortcut`: what the input goes through; None: nothing."""
        self._block = block
        self._shortcut = shortcut
        self.multiply_adds = block.multiply_adds + (shortcut.multiply_adds if shortcut else 0.0)

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:
        """See `Layer.push`."""
        block_state, shortcut_state, waiting = state or (None, None, x[:0])
        out, block_state = self._block.push(x, block_state, last=last)
        if self._shortcut is not None:
            x, shortcut_state = self._shortcut.push(x, shortcut_state, last=last)
        # The input waits for its output; adding it in two parts spares a copy of the whole.
        begun = min(len(waiting), len(out))
        out[:begun] += waiting[:begun]
        out[begun:] += x[: len(out) - begun]
        waiting = torch.cat([waiting[begun:], x[len(out) - begun :]])
        return out, (block_state, shortcut_state, waiting)
