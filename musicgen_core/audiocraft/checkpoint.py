"""Reads the checkpoints that audiocraft saves with torch.save: weights, and the configuration of their training.

There are three forms (see audiocraft 1.3's `utils/export.py` and `solvers/base.py`):

    exported   {"best_state": tensors, "xp.cfg": YAML text}
    raw        {"model": tensors, "xp.cfg": an omegaconf object}, with or without {"best_state": {"model": tensors}}:
               what training and public fine-tuners write
    pointer    {"pretrained": a model's name} instead of a codec's weights

No code in a file is run: torch reads it with `weights_only`, and omegaconf's objects become inert ones of ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml
from torch import Tensor

from musicgen_core.checkpoints.tensors import require_names
from musicgen_core.errors import CheckpointError

INTERPOLATION = re.compile(r"\$\{([\w.]+)\}")
"""A reference to another value of the configuration, such as ${sample_rate}."""
MAX_LINKS = 10


class _Inert:
    """Replaces any object of a pickled configuration: keeps its attributes, and does nothing."""

    def __new__(cls, *_: object) -> _Inert:
        return super().__new__(cls)


_CONFIG_CLASSES = (
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Path", "Bytes")),
    # Types in the metadata of a configuration.
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "str", "bool")),
    "collections.defaultdict",
    "typing.Any",
)


@dataclass(frozen=True)
class AudiocraftCheckpoint:
    """The content of a checkpoint's file."""

    path: Path
    config: TrainingConfig
    tensors: Mapping[str, Tensor]
    """The weights, read from disk when they are used."""
    pretrained: str | None = None
    """The model's name in a pointer, which has neither weights nor a configuration."""


@dataclass(frozen=True)
class Source:
    """A tensor that a checkpoint must hold."""

    shape: tuple[int, ...]
    targets: tuple[str, ...]
    """Names in transformers; its rows are split evenly between them."""


class TrainingConfig:
    """A checkpoint's `xp.cfg`: plain values with dotted names, such as transformer_lm.dim."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self._path = path
        self.values = values
        """The whole configuration, nested as in its YAML text."""

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field, with references followed; `default` where it is absent, null or missing (???)."""
        value = self._find(name)
        for _ in range(MAX_LINKS):
            link = INTERPOLATION.fullmatch(value) if isinstance(value, str) else None
            if link is None:
                break
            value = self._find(link[1])
        return default if value is None or value == "???" else value

    def names(self, name: str) -> set[str]:
        """The keys of a mapping or the items of a list; empty where the field is absent."""
        value = self.get(name, ())
        return {str(item) for item in value} if isinstance(value, (Mapping, list)) else set()

    def number(self, name: str) -> int:
        """The whole number in a field. Raises CheckpointError where there is none."""
        value = self.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise CheckpointError(f"{self._path}: its configuration says {name} = {value!r}; a whole number is needed.")
        return value

    def require(self, supported: Mapping[str, Any]) -> None:
        """Raise CheckpointError where a field has a value that is not supported; absent fields are accepted."""
        for name, only in supported.items():
            if self.get(name, only) != only:
                raise CheckpointError(
                    f"{self._path}: it was trained with {name} = {self.get(name)!r}; only {only!r} is supported."
                )

    def require_agreement(self, found: Mapping[str, int]) -> None:
        """Raise CheckpointError where the configuration contradicts sizes read from the weights."""
        for name, size in found.items():
            if self.get(name, size) != size:
                raise CheckpointError(
                    f"{self._path} contradicts itself: {name} is {self.get(name)!r} in its configuration, and its "
                    f"weights say {size}."
                )

    def _find(self, name: str) -> Any:
        value: Any = self.values
        for part in name.split("."):
            if not isinstance(value, Mapping):
                return None
            value = value.get(part)
        return value


def read_checkpoint(path: Path) -> AudiocraftCheckpoint:
    """Read a checkpoint of any of the three forms, without running its code. Raises CheckpointError."""
    content = load_pickle(path)
    if isinstance(content.get("pretrained"), str):
        return AudiocraftCheckpoint(path, TrainingConfig(path, {}), {}, content["pretrained"])
    config = read_config(path, content.get("xp.cfg"))
    for name in ("fsdp_best_state", "best_state", "model"):
        tensors = content.get(name)
        if isinstance(tensors, dict) and isinstance(tensors.get("model"), dict):
            tensors = tensors["model"]
        if isinstance(tensors, dict) and tensors:
            if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
                raise CheckpointError(f"{path}: its {name} holds other things than tensors.")
            return AudiocraftCheckpoint(path, config, tensors)
    raise CheckpointError(f"{path} holds no weights: neither best_state nor model.")


def rename(
    checkpoint: AudiocraftCheckpoint, sources: Mapping[str, Source], *, ignored: Collection[str] = ()
) -> dict[str, Tensor]:
    """The checkpoint's tensors under transformers' names, as views of the file.

    `ignored`: names of tensors to leave out. Raises CheckpointError, which names the tensors, where some are missing,
    unknown or of another shape.
    """
    tensors = checkpoint.tensors
    require_names(checkpoint.path, expected=sources.keys(), found=tensors.keys() - set(ignored))
    renamed: dict[str, Tensor] = {}
    for name, source in sources.items():
        if tensors[name].shape != source.shape:
            shapes = f"{list(tensors[name].shape)}, not {list(source.shape)}"
            raise CheckpointError(f"{checkpoint.path}: {name} has the shape {shapes}.")
        parts = tensors[name].detach().chunk(len(source.targets))
        renamed |= {target: part.contiguous() for target, part in zip(source.targets, parts, strict=True)}
    return renamed


def load_pickle(path: Path) -> dict[str, Any]:
    """The file's content: plain values, tensors and inert objects; a tensor is read when it is used."""
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _CONFIG_CLASSES]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise CheckpointError(_refusal(path, error)) from error
    except Exception as error:  # a broken or hostile file can raise anything in torch's reader
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"Cannot read {path} as a checkpoint of torch: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a checkpoint of audiocraft: it holds no dictionary.")
    return content


def _refusal(path: Path, error: UnpicklingError) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    what = f"{found[1]}, which is" if found else "something that is"
    return (
        f"{path} is refused, and nothing in it was run: it holds {what} neither weights nor plain configuration, and "
        "reading that could run code. If you trust its maker, have them save weights and configuration alone, as "
        "audiocraft's audiocraft.utils.export.export_lm does."
    )


def read_config(path: Path, stored: object) -> TrainingConfig:
    """Read the configuration from YAML text or from the objects of a raw checkpoint. Raises CheckpointError."""
    try:
        values = yaml.safe_load(stored) if isinstance(stored, str) else _plain(stored)
    except (yaml.YAMLError, RecursionError) as error:
        raise CheckpointError(f"{path}: its configuration (xp.cfg) cannot be read.") from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{path} carries no configuration (xp.cfg), so the model's shape is unknown. Give a file that audiocraft, "
            "or a fine-tuner that builds on it, has saved with one."
        )
    return TrainingConfig(path, values)


def _plain(node: object) -> Any:
    """The values of omegaconf's containers (`_content`) and nodes (`_val`)."""
    if isinstance(node, _Inert):
        stored = vars(node)
        return _plain(stored.get("_content", stored.get("_val")))
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return node
