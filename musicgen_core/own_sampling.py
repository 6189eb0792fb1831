"""How a model's tokens are drawn where nobody says: what the generation_config.json of its folder names.

transformers writes that file, and reads it in the same way. The official models' holds nothing but guidance 3.
"""

from __future__ import annotations

import json
from pathlib import Path

from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import CheckpointError, InvalidRequest

NAMES = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "guidance_scale": "guidance"}
"""The file's names, and those of SamplingParams."""


def read_own_sampling(folder: Path) -> SamplingParams:
    """Read a model's own sampling; what its file does not name is as in SamplingParams.

    Raises CheckpointError where the file is broken, or has values that make no sense.
    """
    path = folder / "generation_config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        found = {ours: raw[theirs] for theirs, ours in NAMES.items() if raw.get(theirs) is not None}
        if found.get("top_p") == 1:
            del found["top_p"]  # to transformers, that is none
        return SamplingParams(**found)
    except (OSError, ValueError, TypeError, AttributeError, InvalidRequest) as error:
        raise CheckpointError(f"{path}: {error}") from error
