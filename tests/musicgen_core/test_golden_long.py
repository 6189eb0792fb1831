"""45 s against audiocraft 1.3.0, by the results of its own extended generation (`reference/audiocraft_long.py`)."""

from pathlib import Path

import pytest
import torch

from reference import native_long
from reference.cases import FRAME_RATE
from reference.long_cases import CASES, SECONDS

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", CASES)
def test_greedy_tokens_are_identical_over_45_seconds(name: str) -> None:
    pair = native_long.codes(GOLDEN, name)
    assert pair.audiocraft.shape == (4, SECONDS * FRAME_RATE)
    assert len(pair.audiocraft[:, -100:].unique()) > 10
    assert torch.equal(pair.native, pair.audiocraft)
