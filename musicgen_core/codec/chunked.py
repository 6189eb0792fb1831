"""Convolutions over a long signal, a piece at a time, so that memory does not grow with the signal.

EnCodec's convolutions run at up to 32,000 positions a second in 64 channels: 300 s at once would take some ten
gigabytes. They reach less than two frames to either side, so pieces that overlap by more give what the whole gives.
EnCodec's LSTM remembers everything before and is no part of this; it runs over the whole, at 50 positions a second.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

PIECE_FRAMES = 1500
MARGIN_FRAMES = 16


class InPieces(nn.Module):
    """Layers that take `samples_in` positions a frame and give `samples_out`: [..., positions] -> [..., positions].

    What is no longer than `piece` frames goes through at once.
    """

    def __init__(self, layers: Iterable[nn.Module], *, samples_in: int, samples_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.samples_in = samples_in
        self.samples_out = samples_out
        self.piece = PIECE_FRAMES

    def forward(self, x: Tensor) -> Tensor:
        """All pieces, one after the other."""
        frames = -(-x.shape[-1] // self.samples_in)
        if frames <= self.piece:
            whole: Tensor = self.layers(x)
            return whole
        return torch.cat([self._piece(x, first) for first in range(0, frames, self.piece)], dim=-1)

    def _piece(self, x: Tensor, first: int) -> Tensor:
        """Frames `first` to `first + piece`, computed with a margin that is then cut off."""
        begin, end = max(0, first - MARGIN_FRAMES), first + self.piece + MARGIN_FRAMES
        out: Tensor = self.layers(x[..., begin * self.samples_in : end * self.samples_in])
        start = (first - begin) * self.samples_out
        return out[..., start : start + self.piece * self.samples_out]
