"""Convolutions over a long signal, chunk by chunk, so that memory does not grow with the signal.

EnCodec's convolutions run at up to 32,000 positions per second in 64 channels: 300 s at once would take about ten
gigabytes. They reach less than two frames to either side, so chunks with a larger margin give the same result as the
whole signal. EnCodec's LSTM depends on everything before and is not part of this; it runs over the whole signal, at 50
positions per second.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

CHUNK_FRAMES = 1500
MARGIN_FRAMES = 16


class ChunkedLayers(nn.Module):
    """Layers that run over a long signal in chunks: `[..., positions]` to `[..., positions]`."""

    def __init__(self, layers: Iterable[nn.Module], *, samples_in: int, samples_out: int) -> None:
        """`samples_in`, `samples_out`: positions per frame, of the input and of the output."""
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.samples_in = samples_in
        self.samples_out = samples_out
        self.chunk = CHUNK_FRAMES
        """Frames per chunk; a signal that is not longer is computed at once."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute all chunks, one after the other."""
        frames = -(-x.shape[-1] // self.samples_in)
        if frames <= self.chunk:
            whole: Tensor = self.layers(x)
            return whole
        return torch.cat([self._chunk(x, first) for first in range(0, frames, self.chunk)], dim=-1)

    def _chunk(self, x: Tensor, first: int) -> Tensor:
        """Frames `first` to `first + chunk`, computed with a margin that is then cut off."""
        begin, end = max(0, first - MARGIN_FRAMES), first + self.chunk + MARGIN_FRAMES
        out: Tensor = self.layers(x[..., begin * self.samples_in : end * self.samples_in])
        start = (first - begin) * self.samples_out
        return out[..., start : start + self.chunk * self.samples_out]
