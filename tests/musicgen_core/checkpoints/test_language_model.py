"""The language model of a model folder, in every form that transformers writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import CheckpointError
from musicgen_core.lm.transformer import LanguageModel
from tests.musicgen_core.reference import CPU, reference


def load(folder: Path, dtype: torch.dtype = torch.float32) -> LanguageModel:
    return load_language_model(folder, device=CPU, dtype=dtype)


def greedy_codes(model: LanguageModel) -> torch.Tensor:
    """A few frames, guided by some text: depends on every weight that a text model has."""
    engine = Engine(model, max_requests=1, max_frames=20)
    text = torch.randn(3, model.config.text_dim, generator=torch.Generator().manual_seed(0))
    generation = engine.submit(Request(20, SamplingParams(temperature=0), seed=0, conditions=Conditions(text)))
    while engine.step():
        pass
    return generation.codes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    reference("text").theirs.save_pretrained(tmp_path)
    return tmp_path


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_shards_and_pickles_load_alike(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    expected = greedy_codes(load(folder))
    sharded = tmp_path_factory.mktemp("sharded")
    reference("text").theirs.save_pretrained(sharded, max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert torch.equal(greedy_codes(load(sharded)), expected)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(greedy_codes(load(folder)), expected)


def test_pickled_shards_load_too(folder: Path) -> None:
    """As in the official repositories of the larger models."""
    expected = greedy_codes(load(folder))
    state = load_file(folder / "model.safetensors")
    names = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(state)}
    for file in set(names.values()):
        torch.save({name: tensor for name, tensor in state.items() if names[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (folder / "model.safetensors").unlink()
    assert torch.equal(greedy_codes(load(folder)), expected)


def test_a_stored_position_table_is_ignored(folder: Path) -> None:
    expected = greedy_codes(load(folder))
    name = "decoder.model.decoder.embed_positions.weights"
    edit_weights(folder, lambda state: state.update({name: torch.zeros(2048, 64)}))
    assert torch.equal(greedy_codes(load(folder)), expected)


def test_names_missing_tensors(folder: Path) -> None:
    edit_weights(folder, lambda state: state.pop("decoder.lm_heads.2.weight"))
    with pytest.raises(CheckpointError, match=r"1 tensors missing \(decoder\.lm_heads\.2\.weight\)"):
        load(folder)


def test_names_unknown_tensors(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update({"decoder.lm_heads.4.weight": torch.zeros(128, 64)}))
    with pytest.raises(CheckpointError, match=r"1 tensors unknown \(decoder\.lm_heads\.4\.weight\)"):
        load(folder)


def test_refuses_a_wrong_shape_even_if_it_could_be_broadcast(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update({"decoder.lm_heads.2.weight": torch.zeros(1, 64)}))
    with pytest.raises(CheckpointError, match=r"lm_heads\.2\.weight has the shape \[1, 64\]"):
        load(folder)


def test_refuses_a_truncated_file(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(folder)


def test_refuses_a_pickle_that_runs_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"decoder.x": Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        load(folder)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_refuses_an_index_that_leaves_its_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="outside its folder"):
        load(folder)


def test_loads_in_bfloat16(folder: Path) -> None:
    model = load(folder, torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert (greedy_codes(model) >= 0).all()
