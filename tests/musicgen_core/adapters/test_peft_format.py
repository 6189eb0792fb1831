"""What is read of a folder that peft has written, and what is refused of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from musicgen_core.adapters import peft_format
from musicgen_core.adapters.adapter import Adapter
from musicgen_core.adapters.peft_format import load_adapter
from musicgen_core.engine.adapters import AppliedAdapter, SequenceAdapter
from musicgen_core.errors import CheckpointError
from tests.musicgen_core.adapters.peft_adapters import ATTENTION, TARGETS, write_adapter
from tests.musicgen_core.reference import Kind, build, reference

TEXT = reference("text").ours.config
Edit = Callable[[dict[str, Any]], Any]
FIRST = "base_model.model.decoder.model.decoder.layers.0.self_attn.q_proj.lora_"


def load(folder: Path, kind: Kind = "text") -> Adapter:
    return load_adapter(folder, reference(kind).ours.config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_adapter(tmp_path / "jazz", build("text"), target_modules=list(ATTENTION))
    return tmp_path / "jazz"


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def delta(adapter: Adapter, target: str, inputs: int, outputs: int) -> Tensor:
    """What an adapter adds to a module's weight, `[outputs, inputs]`."""
    applied = AppliedAdapter(0, adapter.rank, adapter.changes, 1.0)
    return SequenceAdapter(applied).add(target, torch.eye(inputs), torch.zeros(inputs, outputs)).T


PATTERNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "by module": {"rank_pattern": {"q_proj": 3, "v_proj": 5}, "alpha_pattern": {"self_attn.v_proj": 40}},
    "patterns": {"rank_pattern": {r"layers\.[12]\..*": 2}, "alpha_pattern": {r".*\.1\.self_attn\.q_proj": 7.5}},
    "a pattern as the target": {"target_modules": r".*decoder\.layers\.\d\.(self_attn\.q_proj|fc1)"},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "without some": {"exclude_modules": r".*encoder_attn.*"},
    "gaussian": {"init_lora_weights": "gaussian"},
    "many": {"target_modules": [*TARGETS[:7], "lm_heads.1"]},
}


@pytest.mark.parametrize("name", PATTERNS)
def test_every_way_to_say_it_gives_peft_s_own_weights(name: str, tmp_path: Path) -> None:
    wrapped = write_adapter(tmp_path, build("text"), **({"target_modules": list(ATTENTION)} | PATTERNS[name]))
    adapter, before = load(tmp_path), build("text").state_dict()
    after = wrapped.merge_and_unload().state_dict()
    changed = 0
    for layer in range(3):
        prefix = f"decoder.model.decoder.layers.{layer}."
        for stored, target, start, (inputs, outputs) in (
            ("self_attn.q_proj", "qkv", 0, (64, 192)),
            ("self_attn.k_proj", "qkv", 64, (64, 192)),
            ("self_attn.v_proj", "qkv", 128, (64, 192)),
            ("encoder_attn.v_proj", "condition_kv", 64, (64, 128)),
            ("fc1", "feed_forward_in", 0, (64, 128)),
        ):
            weight = f"{prefix}{stored}.weight"
            expected = after[weight] - before[weight]
            got = delta(adapter, f"layers.{layer}.{target}", inputs, outputs)[start : start + len(expected)]
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
            changed += bool(expected.any())
    assert changed >= 2


def test_the_language_model_alone_may_have_been_trained(folder: Path, tmp_path: Path) -> None:
    alone = write_adapter(tmp_path / "alone", build("text").decoder, target_modules=list(ATTENTION))
    assert not any("decoder.model.decoder" in name for name in load_file(tmp_path / "alone/adapter_model.safetensors"))
    whole, part = load(folder), load(tmp_path / "alone")
    assert alone is not None
    for target, changes in whole.changes.items():
        for one, other in zip(changes, part.changes[target], strict=True):
            assert torch.equal(one.a, other.a)
            assert torch.equal(one.b, other.b)


def test_half_precision_is_read_as_it_is(folder: Path) -> None:
    exact = load(folder)
    edit_weights(folder, lambda tensors: tensors.update({name: t.bfloat16() for name, t in tensors.items()}))
    rounded = load(folder)
    [one, *_], [other, *_] = exact.changes["layers.0.qkv"], rounded.changes["layers.0.qkv"]
    assert torch.equal(other.a, one.a.bfloat16().float())


def test_name_rank_and_digest(folder: Path) -> None:
    adapter, again = load(folder), load(folder)
    assert (adapter.name, adapter.rank, len(adapter.digest)) == ("jazz", 8, 64)
    assert adapter.digest == again.digest
    edit_weights(folder, lambda tensors: tensors[f"{FIRST}A.weight"].add_(1e-3))
    assert load(folder).digest != adapter.digest
    edit_config(folder, lora_alpha=13)
    assert load(folder).digest not in (adapter.digest, again.digest)


# What is refused


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"peft_type": "IA3"}, "peft_type is 'IA3'; only 'LORA'"),
    "DoRA": ({"use_dora": True}, "not supported: use_dora"),
    "whole modules": ({"modules_to_save": ["lm_heads.0"]}, "not supported: modules_to_save"),
    "biases": ({"bias": "all"}, "not supported: bias"),
    "a bias of B": ({"lora_bias": True}, "not supported: lora_bias"),
    "changed weights": ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa', which changes the model's own"),
    "single tokens": ({"trainable_token_indices": [1]}, "not supported: trainable_token_indices"),
    "repeated layers": ({"layer_replication": [[0, 2]]}, "not supported: layer_replication"),
    "what comes later": ({"use_something_new": True}, "not supported: use_something_new"),
    "another rank": ({"r": 16}, r"q_proj's A has the shape \[8, 64\]; .* ask for \[16, 64\]"),
    "rank 0": ({"rank_pattern": {"q_proj": 0}}, "every rank must be 1 or more"),
    "an endless scale": ({"lora_alpha": float("inf")}, "q_proj's B, or its scale, holds numbers that are not finite"),
    "no pattern": ({"target_modules": "(q_proj"}, "is no pattern"),
    "no number": ({"lora_alpha": "much"}, "could not convert"),
    "further modules": ({"target_modules": ["q_proj", "v_proj", "fc1"]}, r"6 tensors missing \(.*fc1's A"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_refuses_configurations_that_it_cannot_honour(name: str, folder: Path) -> None:
    changes, message = CONFIGS[name]
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


WEIGHTS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "a missing tensor": (
        lambda t: t.pop(f"{FIRST}B.weight"),
        r"1 tensors missing \(.*0\.self_attn\.q_proj's B\)",
    ),
    "a missing module": (
        lambda t: [t.pop(f"{FIRST}{factor}.weight") for factor in "AB"],
        r"2 tensors missing \(.*q_proj's A, .*q_proj's B\)",
    ),
    "not a number": (
        lambda t: t[f"{FIRST}A.weight"].fill_(float("nan")),
        "q_proj's A, or its scale, holds numbers that are not",
    ),
    "infinity": (
        lambda t: t[f"{FIRST}B.weight"].fill_(float("inf")),
        "q_proj's B, or its scale, holds numbers that are not",
    ),
    "a wrong shape": (lambda t: t.update({f"{FIRST}B.weight": torch.ones(1, 8)}), r"q_proj's B has the shape \[1, 8\]"),
    "DoRA's tensors": (
        lambda t: t.update({f"{FIRST}magnitude_vector": torch.ones(64)}),
        "lora_magnitude_vector, which is no part of a plain LoRA",
    ),
    "a whole weight": (
        lambda t: t.update({"base_model.model.decoder.lm_heads.0.weight": torch.ones(128, 64)}),
        "lm_heads.0.weight, which is no part",
    ),
    "the text encoder": (
        lambda t: t.update({"base_model.model.text_encoder.encoder.block.0.q.lora_A.weight": torch.ones(8, 32)}),
        "changes text_encoder.encoder.block.0.q. Only changes to the language model",
    ),
    "a larger model": (
        lambda t: t.update({f"{FIRST}A.weight".replace("layers.0", "layers.9"): torch.ones(8, 64)}),
        "layers.9.self_attn.q_proj, which this model does not have. Was it trained for another one",
    ),
    "nothing": (lambda t: t.clear(), "24 tensors missing"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_refuses_weights_that_are_not_the_adapter_s(name: str, folder: Path) -> None:
    edit, message = WEIGHTS[name]
    edit_weights(folder, edit)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_refuses_an_adapter_of_a_model_of_another_shape(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"q_proj's A has the shape \[8, 64\]; .*trained for another model"):
        load_adapter(folder, replace(TEXT, dim=128))


def test_refuses_a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="as a pickle, which could run code"):
        load(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2", b"[]"])
def test_refuses_files_that_are_missing_or_broken(name: str, content: bytes | None, folder: Path) -> None:
    path = folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(folder)):
        load(folder)


def test_refuses_a_truncated_file(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot read the adapter"):
        load(folder)


CATASTROPHIC = r"(.|\w)*[!?]"


@pytest.mark.parametrize("field", ["target_modules", "rank_pattern", "alpha_pattern"])
def test_patterns_that_would_take_for_ever_are_given_up(
    folder: Path, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`re` would hold the interpreter, and with it every other request, for years."""
    monkeypatch.setattr(peft_format, "PATTERN_SECONDS", 0.05)
    edit_config(folder, **{field: CATASTROPHIC if field == "target_modules" else {CATASTROPHIC: 3}})
    with pytest.raises(CheckpointError, match="takes too long; name the modules instead"):
        load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"rank_pattern": {f"layer{n}": 3 for n in range(1001)}},
        {"target_modules": [f"layer{n}" for n in range(1001)]},
        {"target_modules": "x" * 1001},
    ],
)
def test_more_names_than_a_model_has_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match="too many modules, or names that are too long"):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.bool])
def test_numbers_that_would_grow_when_they_are_read_are_refused(folder: Path, dtype: torch.dtype) -> None:
    edit_weights(folder, lambda tensors: tensors.update({name: t.to(dtype) for name, t in tensors.items()}))
    with pytest.raises(CheckpointError, match="numbers of the type"):
        load(folder)


def test_an_infinite_rank_is_no_rank(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(path.read_text().replace('"r": 8', '"r": 1e999'))
    with pytest.raises(CheckpointError, match="infinity"):
        load(folder)
