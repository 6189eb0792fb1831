"""The engine `audiocraft` where it cannot run. What it makes where it can: `python -m reference.adapter`."""

import sys
from pathlib import Path
from typing import cast

import pytest

from musicgen_core import CheckpointError, MusicGen, SamplingParams, UnsupportedByModel
from musicgen_core.adapters.adapter import AdapterUse
from musicgen_core.audiocraft import backend
from musicgen_core.audiocraft.backend import AudiocraftBackend, checksum, refuse_unsupported
from musicgen_core.backend import Backend
from musicgen_core.generation_input import ResolvedInput
from musicgen_core.native import NativeBackend
from tests.musicgen_core.adapters.peft_adapters import make_adapter


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "state_dict.bin").write_bytes(b"")
    return tmp_path


def test_the_backend_is_chosen_by_name(text_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = cast(Backend, object())
    monkeypatch.setattr(backend, "load_audiocraft", lambda *_, **__: chosen)
    assert MusicGen.load("any", backend="audiocraft").backend is chosen
    with MusicGen.load(text_model, device="cpu") as model:
        assert isinstance(model.backend, NativeBackend)
    assert not issubclass(AudiocraftBackend, NativeBackend | MusicGen)


def test_says_how_to_install_audiocraft(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audiocraft.models", None)
    with pytest.raises(CheckpointError, match=r"not installed here .*scripts/audiocraft-env\.sh"):
        MusicGen.load(checkpoint, backend="audiocraft", device="cpu")


def test_refuses_what_audiocraft_does_not_do(checkpoint: Path, text_model: Path) -> None:
    with pytest.raises(CheckpointError, match="float32 on cpu, not in bfloat16"):
        MusicGen.load(checkpoint, backend="audiocraft", device="cpu", dtype="bfloat16")
    with pytest.raises(CheckpointError, match="audiocraft loads a folder"):
        MusicGen.load(checkpoint / "state_dict.bin", backend="audiocraft", device="cpu")
    with pytest.raises(CheckpointError, match=r"holds no state_dict\.bin"):
        MusicGen.load(text_model, backend="audiocraft", device="cpu")


def test_refuses_multi_band_diffusion() -> None:
    with pytest.raises(UnsupportedByModel, match="take the engine native"):
        refuse_unsupported(ResolvedInput("a song", 50, 0, SamplingParams(), multi_band_diffusion=True))


def test_refuses_adapters() -> None:
    use = AdapterUse(make_adapter("text").ours)
    with pytest.raises(UnsupportedByModel, match="computes no adapters; take the engine native"):
        refuse_unsupported(ResolvedInput("a song", 50, 0, SamplingParams(), adapter=use))


def test_the_version_is_of_the_checkpoint_s_files(checkpoint: Path) -> None:
    before = checksum(checkpoint)
    (checkpoint / "compression_state_dict.bin").write_bytes(b"codec")
    assert len(before) == 64
    assert checksum(checkpoint) != before
