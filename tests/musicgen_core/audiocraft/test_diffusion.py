"""The conversion of audiocraft's MultiBand Diffusion; tests/golden/diffusion.th is written by `make golden`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from musicgen_core.audiocraft.checkpoint import load_pickle, read_config
from musicgen_core.audiocraft.diffusion import convert_diffusion
from musicgen_core.checkpoints.hub import DIFFUSION_FOLDER
from musicgen_core.errors import CheckpointError
from reference import diffusion_cases as cases

CHECKPOINT = Path(__file__).parents[2] / "golden" / "diffusion.th"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"audio_encoder": cases.CODEC}))
    return tmp_path


def altered(tmp_path: Path, change: Any) -> Path:
    """A copy of the checkpoint with its configurations as plain values, changed."""
    content = load_pickle(CHECKPOINT)
    for index in (0, 1):
        config = read_config(CHECKPOINT, content[index]["cfg"])
        content[index]["cfg"] = dict(config.values)
    change(content)
    torch.save(content, tmp_path / "altered.th")
    return tmp_path / "altered.th"


def test_a_checkpoint_with_plain_configurations_is_the_same(tmp_path: Path, folder: Path) -> None:
    convert_diffusion(altered(tmp_path, lambda content: None), folder)
    plain = load_file(folder / DIFFUSION_FOLDER / "model.safetensors")
    shutil.rmtree(folder / DIFFUSION_FOLDER)
    convert_diffusion(CHECKPOINT, folder)
    pickled = load_file(folder / DIFFUSION_FOLDER / "model.safetensors")
    assert plain.keys() == pickled.keys()
    assert all(torch.equal(plain[name], pickled[name]) for name in plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("n_bands"), "not a MultiBand Diffusion"),
        (lambda content: content.pop(1), "not a MultiBand Diffusion"),
        (lambda content: content[0]["model_state"].pop("embedding.weight"), "embedding.weight"),
        (lambda content: content[0]["cfg"]["diffusion_unet"].update(hidden=8), "size mismatch"),
        (lambda content: content[0]["cfg"]["diffusion_unet"].update(hidden=6), "groups do not divide"),
        (lambda content: content[0]["cfg"]["schedule"].update(repartition="cosine"), "repartition"),
        (lambda content: content[0]["cfg"]["schedule"].update(num_steps=1001), "multiple of 50"),
        (lambda content: content[1]["processor_state"].pop("sum_x"), "sum_x"),
        (lambda content: content.update(sample_rate=24_000), "24000 Hz"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, folder: Path, change: Any, message: str) -> None:
    source = altered(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        convert_diffusion(source, folder)
    assert not (folder / DIFFUSION_FOLDER).exists()


def test_a_checkpoint_with_code_is_refused(tmp_path: Path, folder: Path) -> None:
    trace = tmp_path / "ran"

    class Code:
        def __reduce__(self) -> Any:
            return (Path.touch, (trace,))

    torch.save({"sample_rate": 32_000, "n_bands": 0, "more": Code()}, tmp_path / "code.th")
    with pytest.raises(CheckpointError, match="refused"):
        convert_diffusion(tmp_path / "code.th", folder)
    assert not trace.exists()


def test_what_is_there_is_not_overwritten(folder: Path) -> None:
    convert_diffusion(CHECKPOINT, folder)
    with pytest.raises(CheckpointError, match="exists already"):
        convert_diffusion(CHECKPOINT, folder)
