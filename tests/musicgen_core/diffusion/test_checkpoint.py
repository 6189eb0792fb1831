"""The MultiBand Diffusion of a model folder."""

import json
from pathlib import Path

import pytest

from musicgen_core.audiocraft.diffusion import convert_diffusion
from musicgen_core.checkpoints.hub import DIFFUSION_FOLDER
from musicgen_core.codec.encodec import Codec
from musicgen_core.diffusion.checkpoint import load_diffusion
from musicgen_core.errors import CheckpointError
from reference import diffusion_cases as cases
from reference.native_diffusion import small_codec

CHECKPOINT = Path(__file__).parents[2] / "golden" / "diffusion.th"


@pytest.fixture(scope="module")
def codec() -> Codec:
    return small_codec()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"audio_encoder": cases.CODEC}))
    return tmp_path


def test_what_cannot_be_loaded_is_named(codec: Codec, folder: Path) -> None:
    assert load_diffusion(folder, codec) is None
    convert_diffusion(CHECKPOINT, folder)
    config = folder / DIFFUSION_FOLDER / "config.json"
    whole = json.loads(config.read_text())
    for changed, message in (
        (whole | {"sample_rate": 24_000}, "24000 Hz"),
        ({"sample_rate": 32_000, "bands": [{"unet": {"num_steps": 1000}, "schedule": {}}]}, "loading state_dict"),
        ({"sample_rate": 32_000, "bands": [{"unet": {"num_steps": 1000, "girth": 3}}]}, "girth"),
        ({"sample_rate": 32_000, "bands": [{"unet": whole["bands"][0]["unet"] | {"codec_dim": 9}}]}, "9 numbers"),
        ({"sample_rate": 32_000, "bands": [{"unet": whole["bands"][0]["unet"] | {"depth": 6}}]}, "coarser"),
        ({}, "sample_rate"),
    ):
        config.write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match=message):
            load_diffusion(folder, codec)
