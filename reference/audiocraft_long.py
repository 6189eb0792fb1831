"""Greedy results of audiocraft for more than 30 s, with its default stride of 18 s; imports audiocraft."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from reference import audiocraft_models, checkpoints
from reference.long_cases import CASES, RESULTS, SECONDS, Long, melody, prompt


def write(folder: Path, t5: Path) -> None:
    """Write the codes `[codebooks, frames]` of each case.

    The weights must be in `folder` already, and audiocraft `offline` with `t5`.
    """
    expected = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / name
            checkpoint = checkpoints.write_audiocraft_folder(folder, case.kind, target, text_encoder=str(t5))
            expected[name] = generate(audiocraft_models.load(checkpoint), case)
    save_file(expected, folder / RESULTS)


@torch.no_grad()
def generate(model: Any, case: Long) -> Tensor:
    """Codes `[codebooks, frames]` of the whole piece, int16."""
    model.set_generation_params(use_sampling=False, duration=SECONDS, cfg_coef=3.0)
    wavs = [torch.from_numpy(melody())] if case.kind == "melody" else None
    attributes = audiocraft_models.attributes(model, [case.text], wavs)
    # audiocraft has no public function that returns the codes of an extended generation without decoding them.
    tokens: Tensor = model._generate_tokens(attributes, prompt()[None] if case.prompted else None)  # noqa: SLF001
    return tokens[0].to(torch.int16)
