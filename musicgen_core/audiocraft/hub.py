"""Finds audiocraft's checkpoints: a file, a folder, or a hub id, fetched once into the Hugging Face cache."""

from __future__ import annotations

from pathlib import Path

from musicgen_core.checkpoints.hub import HubId, snapshot
from musicgen_core.errors import CheckpointError

LANGUAGE_MODEL_FILE = "state_dict.bin"
CODEC_FILE = "compression_state_dict.bin"
"""A folder without it takes its codec from elsewhere."""
FILES = (LANGUAGE_MODEL_FILE, CODEC_FILE)


def resolve_checkpoint(source: str | Path, *, endpoint: str | None = None, cache_folder: Path | None = None) -> Path:
    """The local file or folder of a checkpoint.

    `source`: a checkpoint's file, a folder with state_dict.bin, or a hub id, which is fetched as
    `musicgen_core.checkpoints.hub.resolve` does. Raises CheckpointError, whose message says what to do.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        hub_id = HubId.parse(source)
        if hub_id is None:
            raise CheckpointError(
                f"No checkpoint at {source}: there is no such file or folder, and it is not a hub id. Give the folder "
                f"of audiocraft's {LANGUAGE_MODEL_FILE}, a checkpoint's file, or an id such as facebook/musicgen-small."
            )
        path = snapshot(hub_id, FILES, endpoint=endpoint, cache_folder=cache_folder)
    if not (path / LANGUAGE_MODEL_FILE).is_file():
        raise CheckpointError(
            f"{source} holds no {LANGUAGE_MODEL_FILE}. If its checkpoint has another name, give the file."
        )
    return path
