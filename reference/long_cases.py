"""The cases of more than 30 s."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reference.cases import FRAME_RATE, TEXTS, TINY, Kind
from reference.sounds import Sound, tune

SECONDS = 45
RESULTS = "long.expected.safetensors"


@dataclass(frozen=True)
class Long:
    """One piece of music."""

    kind: Kind
    text: str
    prompted: bool = False
    """Whether it continues audio."""


CASES = {"text": Long("text", TEXTS[2]), "melody": Long("melody", TEXTS[0]), "prompt": Long("text", TEXTS[0], True)}


def prompt() -> Tensor:
    """Codes [codebooks, frames] of 20 s to continue."""
    return torch.randint(TINY.vocabulary, (4, 20 * FRAME_RATE), generator=torch.Generator().manual_seed(1))


def melody() -> Sound:
    """A tune whose length does not divide a window's."""
    return tune(5.3)
