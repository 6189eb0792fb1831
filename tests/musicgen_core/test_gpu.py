"""What only a CUDA device can show: the same music as on the CPU, in every number type, from many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from musicgen_core import GenerationInput, MusicGen, SamplingParams

pytestmark = pytest.mark.gpu

GREEDY = SamplingParams(temperature=0)


def greedy(folder: Path, device: str, dtype: str) -> np.ndarray:
    with MusicGen.load(folder, device=device, dtype=dtype, max_requests=2) as model:
        return model.submit(GenerationInput("warm piano", 2.0, 1, GREEDY)).audio().samples


@pytest.mark.parametrize("kind", ["text_model", "melody_model", "stereo_model"])
def test_float32_makes_the_same_music_as_the_cpu(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    np.testing.assert_allclose(greedy(folder, "cuda", "float32"), greedy(folder, "cpu", "float32"), atol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_makes_finite_sound(dtype: str, text_model: Path) -> None:
    samples = greedy(text_model, "cuda", dtype)
    assert samples.shape == (1, 64_000)
    assert np.isfinite(samples).all()
    assert samples.std() > 1e-3


def test_many_threads_share_one_engine(melody_model: Path) -> None:
    with MusicGen.load(melody_model, device="cuda", max_requests=8) as model:

        def generate(seed: int) -> float:
            return model.submit(GenerationInput(f"music {seed}", 1.0 + seed % 3, seed)).audio().duration

        with ThreadPoolExecutor(16) as threads:
            durations = list(threads.map(generate, range(32)))
    assert durations == [1.0 + seed % 3 for seed in range(32)]
