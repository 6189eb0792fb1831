"""An estimate over a long signal, made in windows that fade into each other, so that memory does not grow with it.

For networks that look at the whole of what they are given (normalisation, LSTM, attention), which `in_pieces` cannot
cut without a difference. What fits into one window is estimated at once, exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from musicgen_core.executor import Pausing

WINDOW_FRAMES = 1500
FADE_FRAMES = 50
"""At least so much of a window lies in the next one too."""


def window_starts(frames: int, *, window: int = WINDOW_FRAMES, fade: int = FADE_FRAMES) -> list[int]:
    """First frames of as few windows as cover `frames` and overlap by `fade` or more, evenly spread.

    All have `window` frames, unless one is enough: a network that normalises would treat a short last one differently.
    """
    count = -(-(frames - fade) // (window - fade))
    if count <= 1:
        return [0]
    return [round(i * (frames - window) / (count - 1)) for i in range(count)]


def in_windows(x: Tensor, frames: int, estimate: Callable[[Tensor, slice], Tensor]) -> Pausing[Tensor]:
    """`estimate(part of x, its frames)` for all of x `[channels, samples]`, joined; an estimate has its part's shape.

    Pauses before each. frames: how many x has; `samples` is a multiple of it where it is more than a window.
    """
    if frames <= WINDOW_FRAMES:
        yield
        return estimate(x, slice(0, frames))
    hop = x.shape[-1] // frames
    ramp = torch.arange(1, WINDOW_FRAMES * hop + 1, device=x.device)
    fade = torch.minimum(ramp, ramp.flip(0)).clamp(max=FADE_FRAMES * hop).to(x.dtype)
    joined, weight = torch.zeros_like(x), torch.zeros_like(x[0])
    for start in window_starts(frames):
        end = start + WINDOW_FRAMES
        here = slice(start * hop, end * hop)
        yield
        joined[:, here] += fade * estimate(x[:, here], slice(start, end))
        weight[here] += fade
    return joined / weight
