"""MultiBand Diffusion through the service, beside a request that goes without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.diffusion_model import STEPS, copy_with_diffusion
from tests.e2e.conftest import Service, serve
from tests.e2e.test_generation import RATE, read_wav


@pytest.fixture(scope="module")
def diffusing(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Service]:
    folder = copy_with_diffusion(model_folder, tmp_path_factory.mktemp("diffusion") / "noise")
    with serve(tmp_path_factory.mktemp("service"), MUSICGEN_MODEL=str(folder)) as service:
        yield service


def test_tokens_become_sound_by_diffusion(diffusing: Service) -> None:
    ids = [
        diffusing.post(prompt="piano", duration=2, seed=1, multi_band_diffusion=choice)
        for choice in (True, False, True)
    ]
    sampled, decoded, again = (diffusing.wait(prediction_id) for prediction_id in ids)
    assert [body["status"] for body in (sampled, decoded, again)] == ["succeeded"] * 3
    assert diffusing.audio(sampled) == diffusing.audio(again) != diffusing.audio(decoded)
    assert read_wav(diffusing.audio(sampled)).shape == (1, 2 * RATE)
    steps = {"completed_steps": 103 + STEPS, "total_steps": 103 + STEPS}
    assert sampled["progress"] | steps == sampled["progress"]
    assert re.search(rf"100%.*{103 + STEPS}/{103 + STEPS}", sampled["logs"])
    assert re.search(r"103/103", decoded["logs"])
