"""The weights of a model folder, as transformers writes them: safetensors or pickles, in one file or in shards.

Tensors are read one at a time, so that loading needs little more memory than the model itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from musicgen_core.errors import CheckpointError

NAMES_SHOWN = 5


def read_weights(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Read the tensors whose names begin with `prefix` onto the CPU; the result's names are without it.

    Raises CheckpointError where a file is missing or broken.
    """
    return {name.removeprefix(prefix): tensor for name, tensor in iterate_tensors(folder, (prefix,))}


def iterate_tensors(folder: Path, prefixes: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Read the tensors whose names begin with one of the prefixes, one at a time, onto the CPU.

    Raises CheckpointError where a file is missing or broken.
    """
    for path in _weight_files(folder):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt", device="cpu") as file:
                    for name in file.keys():  # noqa: SIM118 - not a mapping
                        if name.startswith(prefixes):
                            yield name, file.get_tensor(name)
            else:
                # weights_only: a pickle from elsewhere must not run code. mmap: a tensor is read when it is used.
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                yield from ((name, tensor) for name, tensor in state.items() if name.startswith(prefixes))
        except (OSError, SafetensorError, RuntimeError, ValueError, UnpicklingError) as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error


def allocate(module: nn.Module, *, device: torch.device, dtype: torch.dtype) -> None:
    """Give the parameters of a module that was built on torch's `meta` device memory, whose contents are undefined.

    `Module.to_empty` does it too, but on its way it imports a computer algebra system, which takes a quarter as long as
    torch itself.
    """
    memory = {
        name: torch.empty(tensor.shape, device=device, dtype=dtype) for name, tensor in module.state_dict().items()
    }
    module.load_state_dict(memory, assign=True)


def require_names(source: Path, *, expected: Set[str], found: Set[str]) -> None:
    """Raise CheckpointError, which names them, where tensors of `source` are missing or unknown."""
    missing, unknown = expected - found, found - expected
    if missing or unknown:
        raise CheckpointError(f"{source}: {_count('missing', missing)}, {_count('unknown', unknown)}.")


def _count(what: str, names: Set[str]) -> str:
    """`3 tensors missing (a, b, c)`; only the first few are named."""
    shown = ", ".join(sorted(names)[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    return f"{len(names)} tensors {what}" + (f" ({shown})" if names else "")


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights: one, or the shards that an index lists; safetensors are preferred."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise CheckpointError(f"{folder} holds neither model.safetensors nor pytorch_model.bin")


def _shards(index: Path) -> list[Path]:
    """The files that an index lists, all of them in the index's folder."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {index}: {error}") from error
    if any(Path(name).name != name for name in names):
        raise CheckpointError(f"{index} names files outside its folder")
    return [index.parent / name for name in names]
