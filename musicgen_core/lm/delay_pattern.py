"""The delay pattern: codebook k is k frames behind the first.

Copet et al., "Simple and Controllable Music Generation" (2023, https://arxiv.org/abs/2306.05284), section 2.1. A
frame's codes do not enter the language model together: a *column* holds, for each codebook, the code of the frame
`delay` frames back. For 4 codebooks, 3 frames and the padding token P:

    column      0 1 2 3 4 5 6
    codebook 0  P a b c P P P
    codebook 1  P P a b c P P
    codebook 2  P P P a b c P
    codebook 3  P P P P a b c

Column 0 starts the sequence. In stereo models the codebooks alternate between left and right, and both codebooks of a
pair have the same delay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

UNKNOWN = -1
"""The value of a code that has not been generated yet."""


def codebook_delays(codebooks: int, audio_channels: int) -> tuple[int, ...]:
    """Each codebook's delay in frames: 0, 1, 2, 3 for mono, 0, 0, 1, 1, 2, 2, 3, 3 for stereo."""
    return tuple(codebook // audio_channels for codebook in range(codebooks))


def column_count(frames: int, delays: Sequence[int]) -> int:
    """The number of columns for `frames` frames, the start column included."""
    return 1 + frames + max(delays)


def apply_delays(codes: Tensor, delays: Sequence[int], padding: int) -> Tensor:
    """Arrange codes `[codebooks, frames]` in columns `[codebooks, column_count(frames)]`."""
    frames = codes.shape[1]
    columns = codes.new_full((codes.shape[0], column_count(frames, delays)), padding)
    for codebook, delay in enumerate(delays):
        columns[codebook, 1 + delay : 1 + delay + frames] = codes[codebook]
    return columns


def undo_delays(columns: Tensor, delays: Sequence[int]) -> Tensor:
    """Read codes `[codebooks, frames]` back from all their columns `[codebooks, columns]`."""
    frames = columns.shape[1] - column_count(0, delays)
    return torch.stack([columns[codebook, 1 + delay : 1 + delay + frames] for codebook, delay in enumerate(delays)])


def whole_frames(codes: Tensor) -> Tensor:
    """The first frames of codes `[codebooks, frames]`, up to the first frame with an unknown code."""
    return codes[:, : int((codes != UNKNOWN).all(dim=0).sum())]
