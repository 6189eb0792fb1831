"""The waveform's own checks."""

from __future__ import annotations

import numpy as np
import pytest

from musicgen_core.audio.waveform import Waveform
from tests.musicgen_core.audio.signals import RATE


@pytest.mark.parametrize("samples", [np.zeros(4, np.float32), np.zeros((1, 4))])
def test_a_waveform_has_two_axes_of_float32(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="channels, samples"):
        Waveform(samples, RATE)
