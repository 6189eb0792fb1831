"""Overlap-add: an estimate over a long signal from overlapping windows, so that memory does not grow with the signal.

For networks that depend on all of their input (normalisation, LSTM, attention), which cannot run in chunks without a
difference. A signal that fits into one window is estimated at once, exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from musicgen_core.executor import Resumable

WINDOW_FRAMES = 1500
OVERLAP_FRAMES = 50
"""The least overlap of two neighbouring windows, and the length of the cross-fade between them."""


def window_starts(frames: int, *, window: int = WINDOW_FRAMES, overlap: int = OVERLAP_FRAMES) -> list[int]:
    """First frames of as few windows as cover `frames` and overlap by `overlap` or more, evenly spread.

    All have `window` frames, unless one window is enough: a network that normalises would treat a short last one
    differently.
    """
    count = -(-(frames - overlap) // (window - overlap))
    if count <= 1:
        return [0]
    return [round(i * (frames - window) / (count - 1)) for i in range(count)]


def overlap_add(x: Tensor, frames: int, estimate: Callable[[Tensor, slice], Tensor]) -> Resumable[Tensor]:
    """The estimate for all of x `[channels, samples]`, cross-faded from one estimate per window.

    `frames`: of x, whose samples are a multiple of it if there is more than one window. `estimate`: gets a window's
    part of x and its frames, and returns the part's shape. Pauses before each window.
    """
    if frames <= WINDOW_FRAMES:
        yield
        return estimate(x, slice(0, frames))
    hop = x.shape[-1] // frames
    ramp = torch.arange(1, WINDOW_FRAMES * hop + 1, device=x.device)
    fade = torch.minimum(ramp, ramp.flip(0)).clamp(max=OVERLAP_FRAMES * hop).to(x.dtype)
    total, weight = torch.zeros_like(x), torch.zeros_like(x[0])
    for start in window_starts(frames):
        end = start + WINDOW_FRAMES
        samples = slice(start * hop, end * hop)
        yield
        total[:, samples] += fade * estimate(x[:, samples], slice(start, end))
        weight[samples] += fade
    return total / weight
