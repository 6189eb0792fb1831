"""Writes the trained parts as one model folder, in transformers' layout and float16."""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers.models.encodec.modeling_encodec import EncodecModel
from transformers.models.musicgen_melody.modeling_musicgen_melody import MusicgenMelodyForConditionalGeneration

from musicgen_core.checkpoints.auxiliary_files import generation_fields, write_preprocessor
from musicgen_core.checkpoints.hub import DIFFUSION_FOLDER
from training.codec import CODES
from training.command import parse_arguments
from training.language_model import AVERAGING_PREFIX, model_config
from training.tokenizer import load_tokenizer

SAMPLING = {"top_p": 0.7, "guidance_scale": 2.0}
"""How the model is played where nobody says otherwise: so that its parts stay together (docs/pocket.md)."""
LIBRARIES = ("torch", "transformers", "scikit-learn", "tokenizers", "numpy")


def assemble(folder: Path, seed: int) -> tuple[Any, Any]:
    """The whole model with its trained weights in float32, and its tokenizer."""
    tokenizer = load_tokenizer(folder, seed)
    codec: Any = EncodecModel.from_pretrained(folder / "codec")
    codec.config.name_or_path = ""  # it would be a folder of this machine
    model: Any = MusicgenMelodyForConditionalGeneration(model_config(len(tokenizer), codec.config))
    state = torch.load(folder / "language_model.pt", weights_only=True)
    averaged = {
        name.removeprefix(AVERAGING_PREFIX): tensor
        for name, tensor in state["average"].items()
        if name.startswith(AVERAGING_PREFIX)
    }
    model.load_state_dict(averaged)
    model.audio_encoder.load_state_dict(codec.state_dict())
    model.generation_config.update(**generation_fields(CODES, **SAMPLING))
    return model.eval(), tokenizer


def write(folder: Path, target: Path, seed: int) -> None:
    """Write the model of a training folder into `target`."""
    model, tokenizer = assemble(folder, seed)
    target.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(target)
    tokenizer.save_pretrained(str(target))
    write_preprocessor(target, melody=True, channels=1)
    (target / "training.json").write_text(json.dumps(training_record(folder, seed), indent=2) + "\n")
    for file in target.glob("*.*"):
        file.chmod(0o644)  # safetensors writes private files, and the service may run as another user
    if (folder / DIFFUSION_FOLDER).is_dir():
        shutil.copytree(folder / DIFFUSION_FOLDER, target / DIFFUSION_FOLDER, dirs_exist_ok=True)


def training_record(folder: Path, seed: int) -> dict[str, Any]:
    """The record of the training: seed, steps, time, machine, versions."""
    stages = {}
    for stage in ("codec", "diffusion", "text_encoder", "language_model"):
        if stage == "diffusion" and not (folder / f"{stage}.pt").is_file():
            continue  # it is optional
        state = torch.load(folder / f"{stage}.pt", weights_only=True)
        stages[stage] = {"steps": state["step"], "seconds": round(state["seconds"])}
    return {
        "seed": seed,
        "stages": stages,
        "machine": {
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.is_available(),
        },
        "versions": {name: version(name) for name in LIBRARIES},
    }


def main() -> None:
    """Write the model into the subfolder `model` of the training folder."""
    arguments = parse_arguments("export", __doc__)
    target = arguments.folder / "model"
    write(arguments.folder, target, arguments.seed)
    size = sum(file.stat().st_size for file in target.rglob("*.*"))
    print(f"{target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
