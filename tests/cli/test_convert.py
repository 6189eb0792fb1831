"""`musicgen convert`, called as on the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MusicgenForConditionalGeneration

from cli.main import main
from musicgen_core.checkpoints.hub import POCKET_FOLDER
from musicgen_core.checkpoints.noise_model import write_noise_model
from reference.diffusion_cases import CODEC
from tests.e2e.sound import unmarked
from tests.musicgen_core.audiocraft import audiocraft_format as audiocraft

DIFFUSION = Path(__file__).parent.parent / "golden" / "diffusion.th"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noise_model(tmp_path_factory.mktemp("models") / "base", kind="stereo")


@pytest.fixture(scope="module")
def checkpoint(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuner's file."""
    model: Any = MusicgenForConditionalGeneration.from_pretrained(base)
    saved = audiocraft.exported({}, audiocraft.language_model_config(model))
    path = tmp_path_factory.mktemp("source") / "tuned.th"
    torch.save({"xp.cfg": saved["xp.cfg"], "model": audiocraft.language_model_state(model)}, path)
    return path


def test_a_fine_tune_plays_after_conversion(
    checkpoint: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tuned"
    assert main(["convert", str(checkpoint), "--base", str(base), "--output", str(output)]) == 0
    assert f"MUSICGEN_MODEL={output}" in capsys.readouterr().out
    wav = tmp_path / "out.wav"
    assert main(["generate", "piano", "--duration", "0.5", "--model", str(output), "-o", str(wav)]) == 0
    assert len(unmarked(wav.read_bytes())) == 44 + 16_000 * 2 * 2  # stereo, 16 bit
    assert "stereo" in capsys.readouterr().err


def test_multi_band_diffusion_goes_into_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"audio_encoder": CODEC}))
    assert main(["convert", "--diffusion", str(DIFFUSION), "--output", str(tmp_path)]) == 0
    assert {path.name for path in (tmp_path / "diffusion").iterdir()} == {"config.json", "model.safetensors"}


def test_a_hub_id_is_found_in_the_cache(
    checkpoint: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, commit = tmp_path / "cache" / "models--some--tune", "0123456789abcdef0123456789abcdef01234567"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (snapshot / "state_dict.bin").write_bytes(checkpoint.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    output = tmp_path / "out"
    assert main(["convert", "some/tune", "--base", str(base), "--output", str(output)]) == 0
    assert json.loads((output / "config.json").read_text())["decoder"]["audio_channels"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no/such/folder", "--base", "musicgen-pocket", "--output", "out"], "No checkpoint at no/such/folder"),
        (["tuned.th", "--base", "no/such/folder", "--output", "out"], "No model at no/such/folder"),
        (["tuned.th", "--base", "musicgen-pocket", "--output", "out"], "t5-base, 32 wide; the base model"),
        (["tuned.th", "--base", "musicgen-pocket", "--output", "."], "exists already"),
        (["broken.th", "--base", "musicgen-pocket", "--output", "out"], "Cannot read"),
        (["tuned.th", "--output", "out"], "Give SOURCE and --base"),
        (["--output", "out"], "Give SOURCE and --base"),
        (["--diffusion", "broken.th", "--output", "."], "Cannot read"),
        (["--diffusion", "tuned.th", "--output", "."], "not a MultiBand Diffusion"),
        (["--diffusion", str(DIFFUSION), "--output", "."], "not a model folder"),
        (["--diffusion", str(DIFFUSION), "--output", str(POCKET_FOLDER)], "8 numbers per frame"),
    ],
)
def test_says_what_is_wrong(
    options: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned.th").symlink_to(checkpoint)
    (tmp_path / "broken.th").write_bytes(b"broken")
    assert main(["convert", *options]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("musicgen convert: ")
    assert message in last
    assert {path.name for path in tmp_path.iterdir()} == {"tuned.th", "broken.th"}


def test_help_is_quick_to_import_and_complete() -> None:
    code = (
        "import sys; from cli.main import main\n"
        "try: main(['convert', '--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for option in ("SOURCE", "--base", "--output"):
        assert option in shown
