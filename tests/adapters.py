"""Random adapters in PEFT's form for any model, written without peft, which takes seconds to import."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from musicgen_core.checkpoints.config import read_config
from musicgen_core.checkpoints.language_model import places_of
from musicgen_core.lm.transformer import LanguageModel

RANK = 4


def write_random_adapter(folder: Path, model: Path, seed: int) -> Path:
    """Write an adapter of all queries of the model in a folder; returns its own folder."""
    config = read_config(model)
    with torch.device("meta"):
        parameters = dict(LanguageModel(config).named_parameters())
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, place in places_of(config).items():
        if name.endswith("q_proj.weight"):
            outputs, inputs = place.within(parameters).shape
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(RANK, inputs, generator=generator) / inputs**0.5
            tensors[f"{module}.lora_B.weight"] = torch.randn(outputs, RANK, generator=generator)
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
