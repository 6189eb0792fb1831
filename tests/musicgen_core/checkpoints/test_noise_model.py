import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

from musicgen_core.checkpoints.noise_model import Kind, write_noise_model

CLASSES = {
    "text": MusicgenForConditionalGeneration,
    "stereo": MusicgenForConditionalGeneration,
    "melody": MusicgenMelodyForConditionalGeneration,
    "stereo-melody": MusicgenMelodyForConditionalGeneration,
}


@pytest.mark.parametrize("kind", CLASSES)
def test_loads_through_transformers_with_every_weight(kind: Kind, tmp_path: Path) -> None:
    folder = write_noise_model(tmp_path / "model", kind=kind)
    model, report = CLASSES[kind].from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert model.decoder.num_codebooks == (8 if "stereo" in kind else 4)
    tokens = AutoTokenizer.from_pretrained(folder)("warm piano", return_tensors="pt")
    assert model.generation_config.decoder_start_token_id == 2048
    audio = model.generate(**tokens, max_new_tokens=23, do_sample=False, guidance_scale=3.0)
    assert audio.shape == (1, 2 if "stereo" in kind else 1, 20 * 640)


def test_decodes_to_audible_noise(text_model: Path) -> None:
    codec = MusicgenForConditionalGeneration.from_pretrained(text_model).audio_encoder
    codes = torch.randint(2048, (1, 1, 4, 250), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        audio = codec.decode(codes, [None]).audio_values
    assert torch.isfinite(audio).all()
    seconds = audio.reshape(5, 32_000)
    rms = seconds.square().mean(dim=1).sqrt()
    assert ((rms > 0.05) & (rms < 0.3)).all()  # -26 to -10 dBFS, every second
    assert seconds.std(dim=1).min() > 0.05  # and that is sound, not an offset
    assert audio.abs().max() < 1.0


def test_same_seed_same_bytes_another_seed_other_weights(tmp_path: Path) -> None:
    first, again, other = (
        write_noise_model(tmp_path / name, kind="text", seed=seed)
        for name, seed in [("first", 0), ("again", 0), ("other", 1)]
    )
    names = {path.name for path in first.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_writing_leaves_torchs_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    write_noise_model(tmp_path / "model", kind="text")
    assert torch.equal(torch.rand(3), expected)


def test_the_codec_is_the_same_in_every_kind(text_model: Path, melody_model: Path) -> None:
    text, melody = load_file(text_model / "model.safetensors"), load_file(melody_model / "model.safetensors")
    codec = [name for name in text if name.startswith("audio_encoder.")]
    assert codec
    assert all(torch.equal(text[name], melody[name]) for name in codec)


def test_says_that_its_weights_are_random(melody_model: Path) -> None:
    config = json.loads((melody_model / "config.json").read_text())
    assert config["random_weights"] is True
    assert (config["num_chroma"], config["chroma_length"]) == (12, 235)


def test_an_existing_model_is_left_as_it_is(tmp_path: Path) -> None:
    folder = write_noise_model(tmp_path / "model", kind="text")
    (folder / "note").write_text("mine")
    assert write_noise_model(folder, kind="text", seed=1) == folder
    assert (folder / "note").read_text() == "mine"


def test_a_folder_with_other_files_is_not_overwritten_and_nothing_is_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    (folder / "song.txt").write_text("mine")
    with pytest.raises(OSError, match="music"):
        write_noise_model(folder, kind="text")
    assert [path.name for path in tmp_path.rglob("*")] == ["music", "song.txt"]
