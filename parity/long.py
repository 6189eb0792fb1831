"""What audiocraft makes of more than 30 s, greedily; run by the Python of its environment.

usage: python -m parity.long FOLDER

Takes the weights that `parity.reference` wrote into FOLDER and adds long.expected.safetensors: for each case the codes
[codebooks, frames] of 45 s, by `MusicGen._generate_tokens` with its default stride of 18 s.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from parity import audiocraft_models, checkpoints
from parity.cases import TEXTS, Kind
from parity.long_cases import CASES, SECONDS, melody, prompt
from parity.text_encoder import write_t5

def main() -> None:
    """Write the file."""
    folder = Path(sys.argv[1])
    logging.disable(logging.WARNING)
    expected = {}
    with tempfile.TemporaryDirectory() as scratch:
        t5 = write_t5(folder / "base", Path(scratch) / "t5")
        with audiocraft_models.offline(t5):
            for name, (kind, prompted) in CASES.items():
                target = Path(scratch) / name
                checkpoint = checkpoints.write_audiocraft_folder(folder, kind, target, text_encoder=str(t5))
                expected[name] = generate(audiocraft_models.load(checkpoint), kind, prompt() if prompted else None)
                save_file(expected, folder / "long.expected.safetensors")
                print(f"{name}: {list(expected[name].shape)}", flush=True)


@torch.no_grad()
def generate(model: Any, kind: Kind, given: Tensor | None) -> Tensor:
    """Codes [codebooks, frames] of the whole piece, int16."""
    model.set_generation_params(use_sampling=False, duration=SECONDS, cfg_coef=3.0)
    wavs = [torch.from_numpy(melody())] if kind == "melody" else None
    attributes, _ = model._prepare_tokens_and_attributes([TEXTS[0]], None, melody_wavs=wavs)
    tokens: Tensor = model._generate_tokens(attributes, None if given is None else given[None])
    return tokens[0].to(torch.int16)


if __name__ == "__main__":
    main()
