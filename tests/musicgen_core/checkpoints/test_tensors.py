"""The weights of a model folder."""

from pathlib import Path

import pytest

from musicgen_core.checkpoints.tensors import read_weights
from musicgen_core.errors import CheckpointError
from tests.musicgen_core.reference import reference


def test_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        read_weights(tmp_path, "")


def test_reads_only_what_the_prefix_names(tmp_path: Path) -> None:
    reference("text").theirs.save_pretrained(tmp_path)
    weights = read_weights(tmp_path, "enc_to_dec_proj.")
    assert {name: list(tensor.shape) for name, tensor in weights.items()} == {"weight": [64, 32], "bias": [64]}
