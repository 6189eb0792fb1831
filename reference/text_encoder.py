"""The tiny T5 of the comparison: the noise model's, with its weights rounded to float16."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from musicgen_core.checkpoints.noise_model import write_noise_model

PREFIX = "text_encoder."
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def write_base(folder: Path) -> Path:
    """Write a model folder with only T5 and its tokenizer, as the base that checkpoints are converted with."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        model = write_noise_model(Path(scratch) / "noise", kind="text")
        config = json.loads((model / "config.json").read_text())
        for name in TOKENIZER:
            shutil.copyfile(model / name, folder / name)
        weights = load_file(model / "model.safetensors")
    kept_config = {"model_type": config["model_type"], "text_encoder": config["text_encoder"]}
    (folder / "config.json").write_text(json.dumps(kept_config, indent=2) + "\n")
    kept = {name: tensor.half() for name, tensor in weights.items() if name.startswith(PREFIX)}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def write_t5(base: Path, folder: Path) -> Path:
    """Write the T5 of a base into its own folder, in float32, as audiocraft's conditioner reads it."""
    config = T5Config(**json.loads((base / "config.json").read_text())["text_encoder"])
    tensors = load_file(base / "model.safetensors")
    state = {name.removeprefix(PREFIX): tensor.float() for name, tensor in tensors.items()}
    model: Any = T5EncoderModel(config)
    model = model.float()
    missing, unknown = model.load_state_dict(state, strict=False)
    assert not unknown
    assert set(missing) <= {"encoder.embed_tokens.weight", "shared.weight"}  # one table under two names
    model.tie_weights()
    model.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copyfile(base / name, folder / name)
    return folder
