"""The config.json of a model folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from musicgen_core.checkpoints.config import read_config
from musicgen_core.errors import CheckpointError
from tests.musicgen_core.reference import CHROMA_BINS, CHROMA_FRAMES, KINDS, Kind, reference

# The fields of facebook/musicgen-small's own config.json that concern the language model.
OFFICIAL_SMALL = {
    "model_type": "musicgen",
    "text_encoder": {"model_type": "t5", "d_model": 768},
    "audio_encoder": {"model_type": "encodec", "sampling_rate": 32000, "upsampling_ratios": [8, 5, 4, 4]},
    "decoder": {
        "model_type": "musicgen_decoder",
        "activation_function": "gelu",
        "ffn_dim": 4096,
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "num_codebooks": 4,
        "num_hidden_layers": 24,
        "vocab_size": 2048,
    },
}


def write_config(folder: Path, config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_transformers_writes(kind: Kind) -> None:
    config, theirs = reference(kind).ours.config, reference(kind).theirs.config
    assert config.text_dim == theirs.text_encoder.hidden_size
    assert config.frame_rate == theirs.audio_encoder.frame_rate
    assert config.audio_channels == theirs.decoder.audio_channels
    melody = (CHROMA_BINS, CHROMA_FRAMES) if "melody" in kind else (None, None)
    assert (config.chroma_bins, config.chroma_frames) == melody


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bark"}, "model_type is 'bark'"),
        ({"model_type": "musicgen_style"}, "'musicgen_style'; .*MERT"),
        ({"model_type": None}, "model_type is None"),
        ({"decoder": {"activation_function": "mish"}}, "mish"),
        ({"decoder": {"hidden_size": "wide"}}, "wide"),
        ({"decoder": {"hidden_size": 100, "num_attention_heads": 16}}, "multiple"),
        ({"decoder": {"num_codebooks": 3, "audio_channels": 2}}, "3 codebooks"),
        ({"decoder": [1]}, "config.json"),
    ],
)
def test_refuses_configs_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_config(write_config(tmp_path, {**OFFICIAL_SMALL, **change}))


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_refuses_a_broken_config(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)


def test_refuses_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)
