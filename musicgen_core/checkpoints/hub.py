"""Finds a model by its name, folder or hub id; hub models are fetched once into the Hugging Face cache."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Self

from musicgen_core.errors import CheckpointError

POCKET = "musicgen-pocket"
"""The model that comes with the package."""
POCKET_FOLDER = Path(__file__).parents[1] / "pocket"

TEXT_FILES = ("*.json", "*.txt", "spiece.model")
SAFETENSORS = ("model.safetensors", "model-*.safetensors")
PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin")
DIFFUSION_FOLDER = "diffusion"
DIFFUSION_CONFIG, DIFFUSION_WEIGHTS = (f"{DIFFUSION_FOLDER}/{name}" for name in ("config.json", "model.safetensors"))
"""The files of a MultiBand Diffusion, which a model folder may hold."""

STYLE_REASON = (
    "musicgen-style is conditioned on an excerpt's style, which another network (MERT) reads, and guided twice; this "
    "engine does neither. Take a melody model, or one of the others."
)
REFUSED = {"facebook/musicgen-style": STYLE_REASON}
"""Official models that are not supported, with the reason; they are refused before gigabytes are fetched."""


@dataclass(frozen=True)
class HubId:
    """A repository of the Hugging Face hub."""

    repository: str
    """owner/name."""
    revision: str | None
    """A branch, tag or commit; None: the main branch."""

    @classmethod
    def parse(cls, source: str | Path) -> Self | None:
        """Read owner/name or owner/name@revision; None where `source` is neither."""
        match = re.fullmatch(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", str(source))
        if match is None or Path(source).is_absolute():
            return None
        return cls(match["repository"], match["revision"])


def resolve(source: str | Path, *, endpoint: str | None = None, cache_folder: Path | None = None) -> Path:
    """The local folder of a model.

    `source`: "musicgen-pocket", a folder, or a hub id such as facebook/musicgen-small. A hub id is fetched, with a
    progress bar, unless the cache holds it; without a network the cached copy is used. `endpoint` and `cache_folder`
    default to the hub client's own (HF_ENDPOINT, HF_HOME). Raises CheckpointError, whose message says what to do.
    """
    if source == POCKET:
        return _require_model(POCKET_FOLDER, source)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _require_model(folder, source)
    hub_id = HubId.parse(source)
    if hub_id is None:
        raise CheckpointError(
            f"No model at {source}: there is no such folder, and it is not a hub id. "
            f"Give {POCKET}, a folder with config.json and weights, or an id such as facebook/musicgen-small."
        )
    return _require_model(_fetch(hub_id, endpoint, cache_folder), hub_id.repository)


def checksum(folder: Path) -> str:
    """SHA-256, in hex, over the names and contents of a model's config and weights: its version."""
    total = hashlib.sha256()
    diffusion = [path for name in (DIFFUSION_CONFIG, DIFFUSION_WEIGHTS) if (path := folder / name).is_file()]
    for path in [folder / "config.json", *weight_files(folder), *diffusion]:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()


def is_cached(hub_id: HubId) -> bool:
    """Whether the cache holds a model of the hub; asks nobody. Raises CheckpointError for one that is refused."""
    _require_supported(hub_id)
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id.repository, "config.json", revision=hub_id.revision), str)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights, sorted by name: safetensors if there are any, else pickles, else none."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for patterns in (SAFETENSORS, PICKLED):
        if found := [folder / name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]:
            return found
    return []


def snapshot(hub_id: HubId, patterns: tuple[str, ...], *, endpoint: str | None, cache_folder: Path | None) -> Path:
    """Bring the cached copy of a repository's files up to date, where the hub can be reached; returns its folder.

    The folder does not exist if no file matches the patterns. Raises CheckpointError.
    """
    _require_supported(hub_id)
    repository = hub_id.repository
    from huggingface_hub import HfApi

    try:
        folder = HfApi(endpoint=endpoint).snapshot_download(
            repository, revision=hub_id.revision, allow_patterns=list(patterns), cache_dir=cache_folder
        )
    except Exception as error:  # transport errors are those of whichever HTTP library the hub client uses
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise CheckpointError(
            f"The model {repository} can be neither fetched nor found in the cache: {reason}. Check the id and the "
            "network, log in with `hf auth login` if it is gated, or give the path of a model folder."
        ) from error
    return Path(folder)


def _require_supported(hub_id: HubId) -> None:
    if reason := REFUSED.get(hub_id.repository):
        raise CheckpointError(f"{hub_id.repository} is refused: {reason}")


def _fetch(hub_id: HubId, endpoint: str | None, cache_folder: Path | None) -> Path:
    """The cached copy of a model; pickles are fetched only where there are no safetensors."""
    diffusion = (DIFFUSION_CONFIG, DIFFUSION_WEIGHTS)
    for weights in (SAFETENSORS, PICKLED):
        patterns = (*TEXT_FILES, *weights, *diffusion)
        folder = snapshot(hub_id, patterns, endpoint=endpoint, cache_folder=cache_folder)
        if weight_files(folder):
            break
    return folder


def _require_model(folder: Path, source: str | Path) -> Path:
    """The folder, if it holds a config and weights that transformers wrote. Raises CheckpointError."""
    if (folder / "config.json").is_file() and weight_files(folder):
        return folder
    raise CheckpointError(
        f"{source} is not a model folder: it must hold config.json and model.safetensors (or pytorch_model.bin), as "
        f"transformers writes them. If it is audiocraft's checkpoint, convert it once: musicgen convert {source} "
        "--base facebook/musicgen-small --output FOLDER"
    )
