"""Finds a model: the one that comes with the package, a folder as it is, or a hub id, fetched once into the Hugging
Face cache.
"""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatch
from pathlib import Path

from musicgen_core.errors import CheckpointError

POCKET = "musicgen-pocket"
"""The model that comes with the package."""
POCKET_FOLDER = Path(__file__).parents[1] / "pocket"

HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
"""owner/name, with @revision for a branch, tag or commit."""

TEXT_FILES = ("*.json", "*.txt", "spiece.model")
SAFETENSORS = ("model.safetensors", "model-*.safetensors")
DIFFUSION = ("diffusion/config.json", "diffusion/model.safetensors")
"""What a folder may carry besides: a MultiBand Diffusion."""
PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin")
AUDIOCRAFT = ("state_dict.bin", "compression_state_dict.bin")
"""audiocraft's language model and codec; a folder without the second takes its codec from elsewhere."""

STYLE_REASON = (
    "musicgen-style is conditioned on an excerpt's style, which another network (MERT) reads, and guided twice; this "
    "engine does neither. Take a melody model, or one of the others."
)
REFUSED = {"facebook/musicgen-style": STYLE_REASON}
"""Official models that do not work here, and why; told before gigabytes are fetched."""


def resolve(source: str | Path, *, endpoint: str | None = None, cache_folder: Path | None = None) -> Path:
    """The local folder of a model.

    `source`: "musicgen-pocket", a folder, or a hub id such as facebook/musicgen-small, which is fetched with a
    progress bar unless the cache holds it; without a network, the cached copy serves. `endpoint` and `cache_folder`
    default to the hub client's own (HF_ENDPOINT, HF_HOME). Raises CheckpointError, whose message says what to
    do.
    """
    if source == POCKET:
        return _require_model(POCKET_FOLDER)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _require_model(folder)
    match = HUB_ID.fullmatch(str(source))
    if match is None or Path(source).is_absolute():
        raise CheckpointError(
            f"No model at {source}: there is no such folder, and it is not a hub id. "
            f"Give {POCKET}, a folder with config.json and weights, or an id such as facebook/musicgen-small."
        )
    return _require_model(_fetch(match["repository"], match["revision"], endpoint, cache_folder))


def resolve_audiocraft(source: str | Path, *, endpoint: str | None = None, cache_folder: Path | None = None) -> Path:
    """audiocraft's checkpoint: a file, or a folder with state_dict.bin, as it is, or fetched as `resolve` does.

    Raises CheckpointError.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        match = HUB_ID.fullmatch(str(source))
        if match is None or path.is_absolute():
            raise CheckpointError(
                f"No checkpoint at {source}: there is no such file or folder, and it is not a hub id. Give the folder "
                "of audiocraft's state_dict.bin, a checkpoint's file, or an id such as facebook/musicgen-small."
            )
        path = _snapshot(match["repository"], match["revision"], endpoint, cache_folder, AUDIOCRAFT)
    if not (path / AUDIOCRAFT[0]).is_file():
        raise CheckpointError(f"{source} holds no {AUDIOCRAFT[0]}. If its checkpoint has another name, give the file.")
    return path


def checksum(folder: Path) -> str:
    """SHA-256, in hex, over the names and contents of a model's config and weights: its version."""
    total = hashlib.sha256()
    extra = [folder / name for name in DIFFUSION if (folder / name).is_file()]
    for path in [folder / "config.json", *weight_files(folder), *extra]:
        with path.open("rb") as file:
            total.update(
                f"{path.relative_to(folder).as_posix()} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return total.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights, sorted by name; safetensors where there are any."""
    chosen = _choose_weights([path.name for path in folder.iterdir()])
    return sorted(path for path in folder.iterdir() if any(fnmatch(path.name, pattern) for pattern in chosen))


def _choose_weights(names: list[str]) -> tuple[str, ...]:
    for patterns in (SAFETENSORS, PICKLED):
        if any(fnmatch(name, pattern) for name in names for pattern in patterns):
            return patterns
    return ()


def _require_model(folder: Path) -> Path:
    """`folder`, if it holds a config and weights that transformers wrote."""
    if (folder / "config.json").is_file() and weight_files(folder):
        return folder
    if (folder / "state_dict.bin").is_file():
        raise CheckpointError(
            f"{folder} holds audiocraft's state_dict.bin. Convert it once: musicgen convert {folder} "
            "--base facebook/musicgen-small --output FOLDER"
        )
    raise CheckpointError(
        f"{folder} is not a model folder: it must hold config.json and model.safetensors (or "
        "pytorch_model.bin), as transformers writes them."
    )


def _fetch(repository: str, revision: str | None, endpoint: str | None, cache_folder: Path | None) -> Path:
    """The cached copy of a hub repository, brought up to date where the hub can be reached."""
    for weights in (SAFETENSORS, PICKLED):
        folder = _snapshot(repository, revision, endpoint, cache_folder, (*TEXT_FILES, *weights, *DIFFUSION))
        if folder.is_dir() and weight_files(folder):
            return folder
    raise CheckpointError(
        f"{repository} holds no weights that transformers wrote. If it has audiocraft's {AUDIOCRAFT[0]}, convert it "
        f"once: musicgen convert {repository} --base facebook/musicgen-small --output FOLDER"
    )


def _snapshot(
    repository: str, revision: str | None, endpoint: str | None, cache_folder: Path | None, patterns: tuple[str, ...]
) -> Path:
    """The folder of a repository's files that match the patterns; not there if none does."""
    if repository in REFUSED:
        raise CheckpointError(f"{repository} is refused: {REFUSED[repository]}")
    from huggingface_hub import HfApi

    try:
        api = HfApi(endpoint=endpoint)
        return Path(
            api.snapshot_download(repository, revision=revision, allow_patterns=list(patterns), cache_dir=cache_folder)
        )
    except Exception as error:  # transport errors are those of whichever HTTP library the hub client uses
        raise CheckpointError(
            f"The model {repository} can be neither fetched nor found in the cache: {_first_line(error)}. "
            "Check the id and the network, log in with `hf auth login` if it is gated, or give the path of a "
            "model folder."
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
