"""The delay pattern: codebook k runs k frames behind the first (https://arxiv.org/abs/2306.05284, 2.1).

A frame's codes [codebooks] do not enter the language model together: a *column* holds, for each codebook, the
code of the frame `delay` frames back. For 4 codebooks, 3 frames and P, the padding token:

    column      0 1 2 3 4 5 6
    codebook 0  P a b c P P P
    codebook 1  P P a b c P P
    codebook 2  P P P a b c P
    codebook 3  P P P P a b c

Column 0 is the model's start. In stereo models the codebooks alternate left and right, and a pair shares its
delay.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

UNKNOWN = -1
"""Stands in a column where a code is still to be generated."""


def codebook_delays(codebooks: int, audio_channels: int) -> tuple[int, ...]:
    """Each codebook's delay in frames: 0, 1, 2, 3 for mono, 0, 0, 1, 1, 2, 2, 3, 3 for stereo."""
    return tuple(codebook // audio_channels for codebook in range(codebooks))


def column_count(frames: int, delays: Sequence[int]) -> int:
    """How many columns hold `frames` frames, the start column included."""
    return 1 + frames + max(delays)


def apply_delays(codes: Tensor, delays: Sequence[int], padding: int) -> Tensor:
    """Lay codes [codebooks, frames] out as columns [codebooks, column_count(frames)]."""
    frames = codes.shape[1]
    columns = codes.new_full((codes.shape[0], column_count(frames, delays)), padding)
    for codebook, delay in enumerate(delays):
        columns[codebook, 1 + delay : 1 + delay + frames] = codes[codebook]
    return columns


def undo_delays(columns: Tensor, delays: Sequence[int]) -> Tensor:
    """Read codes [codebooks, frames] back from all their columns [codebooks, columns]."""
    frames = columns.shape[1] - column_count(0, delays)
    return torch.stack([columns[codebook, 1 + delay : 1 + delay + frames] for codebook, delay in enumerate(delays)])


def whole_frames(codes: Tensor) -> Tensor:
    """The frames of codes [codebooks, frames] all of whose codes are known; frames become whole one after the other."""
    return codes[:, : int((codes != UNKNOWN).all(dim=0).sum())]
