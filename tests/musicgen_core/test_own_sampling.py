"""A model's own temperature and guidance: read from its folder, and used where nobody says otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from transformers import GenerationConfig

from musicgen_core import CheckpointError, GenerationInput, MusicGen, SamplingParams
from musicgen_core.checkpoints.auxiliary_files import generation_fields
from musicgen_core.checkpoints.hub import POCKET_FOLDER
from musicgen_core.own_sampling import read_own_sampling

FILE = "generation_config.json"


def test_official_models_have_nothing_of_their_own(tmp_path: Path) -> None:
    assert read_own_sampling(tmp_path) == SamplingParams()
    GenerationConfig(**generation_fields(2048)).save_pretrained(tmp_path)
    assert read_own_sampling(tmp_path) == SamplingParams()


def test_what_transformers_writes_is_read(tmp_path: Path) -> None:
    own = generation_fields(2048, temperature=0.5, guidance_scale=2.0, top_p=0.9)
    GenerationConfig(**own).save_pretrained(tmp_path)
    assert read_own_sampling(tmp_path) == SamplingParams(temperature=0.5, guidance=2.0, top_p=0.9)


@pytest.mark.parametrize("text", ["[]", "{", '{"temperature": -1}', '{"guidance_scale": "much"}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError, match=FILE):
        read_own_sampling(tmp_path)


def test_a_model_plays_as_its_folder_says(tmp_path: Path) -> None:
    folder = shutil.copytree(POCKET_FOLDER, tmp_path / "model")
    fields = json.loads((folder / FILE).read_text()) | {"temperature": 0.0, "guidance_scale": 1.0}
    (folder / FILE).write_text(json.dumps(fields))
    with MusicGen.load(folder) as model:
        assert (model.sampling.temperature, model.sampling.guidance) == (0.0, 1.0)
        greedy = model.generate("piano", duration=1, temperature=0, guidance=1, seed=1)
        assert np.array_equal(model.generate("piano", duration=1, seed=2).samples, greedy.samples)
        asked = GenerationInput("piano", 1, seed=2, sampling=SamplingParams(temperature=2.0))
        assert not np.array_equal(model.submit(asked).audio().samples, greedy.samples)
