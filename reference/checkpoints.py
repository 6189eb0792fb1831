"""The weights of the comparison, stored as safetensors and given to both sides in the layout that audiocraft saves.

`text.safetensors`, `melody.safetensors` and `stereo.safetensors` hold an LMModel's state in float16, with its xp.cfg in
the metadata. `codec.safetensors` holds the EncodecModel's. `base` holds T5 and its tokenizer, as in a model folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from reference.cases import Kind

CODEC = "codec"


def save(folder: Path, name: str, state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write one model's state and configuration."""
    metadata = {"xp.cfg": yaml.safe_dump(config), "version": "1.3.0"}
    save_file({key: value.contiguous() for key, value in state.items()}, folder / f"{name}.safetensors", metadata)


def write_audiocraft_folder(source: Path, kind: Kind, target: Path, *, text_encoder: str | None = None) -> Path:
    """Write `state_dict.bin` and `compression_state_dict.bin` of a kind into `target`; returns `target`.

    `text_encoder`: the folder that audiocraft reads T5 from; None leaves the configuration as it is.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name, file in ((kind, "state_dict.bin"), (CODEC, "compression_state_dict.bin")):
        config = yaml.safe_load(_metadata(source / f"{name}.safetensors")["xp.cfg"])
        if name == kind and text_encoder is not None:
            config["conditioners"]["description"]["t5"]["name"] = text_encoder
        package = {
            "best_state": load_file(source / f"{name}.safetensors"),
            "xp.cfg": yaml.safe_dump(config),
            "version": "1.3.0",
            "exported": True,
        }
        torch.save(package, target / file)
    return target


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())
