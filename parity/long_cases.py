"""The pieces of more than 30 s that are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from parity.cases import FRAME_RATE, TINY, Kind
from parity.sounds import Sound, tune

SECONDS = 45
CASES: dict[str, tuple[Kind, bool]] = {"text": ("text", False), "melody": ("melody", False), "prompt": ("text", True)}
"""Name: the kind of model, and whether audio is continued."""


def prompt() -> Tensor:
    """Codes [codebooks, frames] of 20 s to continue."""
    return torch.randint(TINY.vocabulary, (4, 20 * FRAME_RATE), generator=torch.Generator().manual_seed(1))


def melody() -> Sound:
    """A tune that no window is a multiple of."""
    return tune(5.3)
