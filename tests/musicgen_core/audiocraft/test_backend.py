"""The engine `audiocraft` where it cannot run. What it makes where it can: `python -m reference.adapter`."""

import sys
from pathlib import Path

import pytest

from musicgen_core import GenerationInput, MusicGen
from musicgen_core.audiocraft.backend import AudiocraftMusicGen, engine_class
from musicgen_core.errors import CheckpointError, UnsupportedByModel


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "state_dict.bin").write_bytes(b"")
    return tmp_path


def test_the_engine_is_chosen_by_name() -> None:
    assert engine_class("native") is MusicGen
    assert engine_class("audiocraft") is AudiocraftMusicGen


def test_says_how_to_install_audiocraft(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audiocraft.models", None)
    with pytest.raises(CheckpointError, match=r"not installed here .*scripts/audiocraft-env\.sh"):
        AudiocraftMusicGen.load(checkpoint, device="cpu")


def test_refuses_what_audiocraft_does_not_do(checkpoint: Path, text_model: Path) -> None:
    with pytest.raises(CheckpointError, match="float32 on cpu, not in bfloat16"):
        AudiocraftMusicGen.load(checkpoint, device="cpu", dtype="bfloat16")
    with pytest.raises(CheckpointError, match="audiocraft loads a folder"):
        AudiocraftMusicGen.load(checkpoint / "state_dict.bin", device="cpu")
    with pytest.raises(CheckpointError, match=r"holds no state_dict\.bin"):
        AudiocraftMusicGen.load(text_model, device="cpu")


def test_refuses_multi_band_diffusion() -> None:
    model = AudiocraftMusicGen.__new__(AudiocraftMusicGen)
    with pytest.raises(UnsupportedByModel, match="take the engine native"):
        model.submit(GenerationInput("a song", 1, 0, multi_band_diffusion=True))


def test_the_version_is_of_the_checkpoint_s_files(checkpoint: Path) -> None:
    model = AudiocraftMusicGen.__new__(AudiocraftMusicGen)
    model._folder = checkpoint
    before = model.checksum
    (checkpoint / "compression_state_dict.bin").write_bytes(b"codec")
    del model.checksum
    assert len(before) == 64
    assert model.checksum != before
