"""Adapters as PEFT writes them (https://huggingface.co/docs/peft): `adapter_config.json`, `adapter_model.safetensors`.

Their tensors are named after the modules of transformers' MusicGen. Where a module's weight lies in `LanguageModel` is
known from the checkpoints: a change to `q_proj` is one to the first third of the stacked queries, keys and values.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import regex
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from musicgen_core.adapters.adapter import EMBEDDING, Adapter, Changes, LowRank
from musicgen_core.checkpoints.language_model import Place, places_of
from musicgen_core.checkpoints.tensors import require_names
from musicgen_core.errors import CheckpointError
from musicgen_core.lm.transformer import LanguageModel, LanguageModelConfig

Number = TypeVar("Number", int, float)

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_UNDERSTOOD = {
    *("alpha_pattern", "bias", "exclude_modules", "init_lora_weights", "layers_pattern", "layers_to_transform"),
    *("lora_alpha", "peft_type", "r", "rank_pattern", "target_modules", "use_rslora"),
}
_WITHOUT_EFFECT = {
    *("auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "inference_mode"),
    *("loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "peft_version", "qalora_group_size"),
    *("revision", "runtime_config", "task_type", "velora_config"),
}
"""They describe how an adapter was trained, or where it came from."""
_INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal")
"""Those that leave the model's own weights as they were."""
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MAX_PATTERNS, MAX_PATTERN_LENGTH = 1000, 1000
"""More than the names of any model's modules."""
PATTERN_SECONDS = 1.0
"""Computing time that the patterns of a configuration may take in all: whoever wrote them may be a stranger."""


def load_adapter(folder: Path, config: LanguageModelConfig) -> Adapter:
    """Read an adapter for models of this shape onto the CPU.

    Raises CheckpointError where a file is missing or broken, where a tensor is missing, unknown, not finite or of the
    wrong shape, where patterns take too long to match, and where the adapter is of a kind that the engine cannot
    compute (DoRA, trained copies of whole modules, changes to the text encoder, ...).
    """
    settings, weights = folder / CONFIG, folder / WEIGHTS
    if not weights.is_file() and (folder / "adapter_model.bin").is_file():
        raise CheckpointError(
            f"{folder} holds its adapter as a pickle, which could run code. Load it with peft where you trust it, and "
            f"save it again, which writes {WEIGHTS}."
        )
    try:
        description, content = settings.read_bytes(), weights.read_bytes()
        raw, tensors = json.loads(description), load(content)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the adapter in {folder}: {error}") from error
    lora = _Lora.of(raw, settings)
    try:
        changes = _changes(tensors, lora, config, weights)
    except regex.error as error:
        raise CheckpointError(f"{settings}: {error.pattern!r} is no pattern: {error}") from error
    except TimeoutError as error:
        raise CheckpointError(f"{settings}: matching its patterns takes too long; name the modules instead") from error
    digest = hashlib.sha256(hashlib.sha256(description).digest() + content).hexdigest()
    return Adapter(folder.resolve().name, digest, config, changes)


@dataclass(frozen=True)
class _Lora:
    """What a configuration says of the computation."""

    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    by_root: bool
    """Whether the scale is alpha / sqrt(rank), as rsLoRA has it, instead of alpha / rank."""
    targets: str | tuple[str, ...]
    selects: bool
    """Whether further fields choose among the targets."""
    deadline: float
    """Until when patterns may be matched, by `time.thread_time`."""

    @classmethod
    def of(cls, raw: Any, path: Path) -> _Lora:
        """Read the configuration. Raises CheckpointError."""
        if not isinstance(raw, dict):
            raise CheckpointError(f"{path} is not an adapter's configuration")
        if raw.get("peft_type") != "LORA":
            raise CheckpointError(f"{path}: peft_type is {raw.get('peft_type')!r}; only 'LORA' is supported")
        unsupported = [name for name, value in raw.items() if value and name not in _UNDERSTOOD | _WITHOUT_EFFECT]
        if raw.get("bias", "none") != "none":
            unsupported.append("bias")
        if raw.get("init_lora_weights", True) not in _INITIALISATIONS:
            unsupported.append(f"init_lora_weights {raw['init_lora_weights']!r}, which changes the model's own weights")
        if unsupported:
            raise CheckpointError(
                f"{path} asks for what is not supported: {', '.join(sorted(unsupported))}. Merge the adapter into the "
                "model with peft's merge_and_unload, and load the merged model."
            )
        targets = raw.get("target_modules") or ()
        try:
            lora = cls(
                rank=int(raw.get("r", 8)),
                alpha=float(raw.get("lora_alpha", 8)),
                ranks={str(name): int(rank) for name, rank in (raw.get("rank_pattern") or {}).items()},
                alphas={str(name): float(alpha) for name, alpha in (raw.get("alpha_pattern") or {}).items()},
                by_root=bool(raw.get("use_rslora")),
                targets=targets if isinstance(targets, str) else tuple(map(str, targets)),
                selects=raw.get("exclude_modules") is not None or raw.get("layers_to_transform") is not None,
                deadline=time.thread_time() + PATTERN_SECONDS,
            )
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        patterns = [*lora.ranks, *lora.alphas, *([lora.targets] if isinstance(lora.targets, str) else lora.targets)]
        if len(patterns) > MAX_PATTERNS or max(map(len, patterns), default=0) > MAX_PATTERN_LENGTH:
            raise CheckpointError(f"{path} names too many modules, or names that are too long")
        if min([lora.rank, *lora.ranks.values()]) < 1:
            raise CheckpointError(f"{path}: every rank must be 1 or more")
        return lora

    def wants(self, module: str) -> bool:
        """Whether a module is among the targets: a list's names end its own, a string is a pattern for the whole."""
        if isinstance(self.targets, str):
            return self._matches(self.targets, module)
        return any(module == target or module.endswith(f".{target}") for target in self.targets)

    def rank_of(self, module: str) -> int:
        """The rank that a module's change has."""
        return self._matching(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        """What a module's change is multiplied by."""
        rank = self.rank_of(module)
        return self._matching(self.alphas, module, self.alpha) / (math.sqrt(rank) if self.by_root else rank)

    def _matching(self, patterns: Mapping[str, Number], module: str, default: Number) -> Number:
        """The value of the first pattern that ends a module's name."""
        return next((value for key, value in patterns.items() if self._matches(rf"(.*\.)?({key})", module)), default)

    def _matches(self, pattern: str, module: str) -> bool:
        """Whether a pattern fits the whole name. Raises TimeoutError, regex.error."""
        left = self.deadline - time.thread_time()
        if left <= 0:
            raise TimeoutError
        # Without the interpreter's lock: others go on meanwhile.
        return regex.fullmatch(pattern, module, concurrent=True, timeout=left) is not None


def _changes(tensors: Mapping[str, Tensor], lora: _Lora, config: LanguageModelConfig, path: Path) -> Changes:
    places = {name.removesuffix(".weight"): place for name, place in places_of(config).items() if _is_matrix(name)}
    factors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, factor = _parse(name, places, path)
        factors.setdefault(module, {})[factor] = tensor
    wanted = set() if lora.selects else {module for module in places if lora.wants(module)}
    require_names(
        path,
        expected={f"{module}'s {factor}" for module in wanted | factors.keys() for factor in "AB"},
        found={f"{module}'s {factor}" for module, pair in factors.items() for factor in pair},
    )
    with torch.device("meta"):
        parameters = dict(LanguageModel(config).named_parameters())
    changes: dict[str, list[LowRank]] = {}
    for module in sorted(factors, key=lambda module: places[module].start):
        place = places[module]
        outputs, inputs = place.within(parameters).shape
        if place.parameter == EMBEDDING:
            outputs, inputs = inputs, outputs  # PEFT takes a look-up for a product with one-hot rows
        rank = lora.rank_of(module)
        a = _checked(factors[module]["A"], (rank, inputs), 1.0, f"{path}: {module}'s A")
        b = _checked(factors[module]["B"], (outputs, rank), lora.scale_of(module), f"{path}: {module}'s B")
        part = LowRank(place.start, a, b)
        changes.setdefault(place.parameter.removesuffix(".weight"), []).append(part)
    if not changes:
        raise CheckpointError(f"{path} changes nothing: it holds no tensors")
    return {target: tuple(parts) for target, parts in changes.items()}


def _is_matrix(name: str) -> bool:
    """Whether a checkpoint's tensor belongs to a module that LoRA can change: not to a norm, and not a bias."""
    return name.endswith(".weight") and "norm" not in name


def _parse(name: str, places: Mapping[str, Place], path: Path) -> tuple[str, str]:
    """The module and the factor, "A" or "B", that a tensor is of."""
    match = re.fullmatch(r"(?:base_model\.model\.)?(.+)\.(?:lora_(A|B)\.weight|lora_embedding_(A|B))", name)
    if match is None:
        raise CheckpointError(f"{path} holds {name}, which is no part of a plain LoRA")
    module, factor = match[1], match[2] or match[3]
    for found in (module, f"decoder.{module}"):  # the whole model was trained, or its language model alone
        if found in places:
            return found, factor
    if module.startswith(("text_encoder.", "audio_encoder.")):
        raise CheckpointError(
            f"{path} changes {module}. Only changes to the language model and the projections before it are supported; "
            "train with the text encoder frozen, or merge the adapter into the model with peft's merge_and_unload."
        )
    raise CheckpointError(f"{path} changes {module}, which this model does not have. Was it trained for another one?")


def _checked(tensor: Tensor, shape: tuple[int, int], scale: float, what: str) -> Tensor:
    """A factor in float32, scaled. Raises CheckpointError where it has another shape, or numbers are not finite."""
    if tensor.shape != shape:
        raise CheckpointError(
            f"{what} has the shape {list(tensor.shape)}; the model and {CONFIG} ask for {list(shape)}. "
            "Was it trained for another model?"
        )
    if tensor.dtype not in _FLOATS:
        raise CheckpointError(f"{what} holds numbers of the type {tensor.dtype}, which is not supported")
    scaled = tensor.to(torch.float32).contiguous() * scale
    if not bool(scaled.isfinite().all()):
        raise CheckpointError(f"{what}, or its scale, holds numbers that are not finite")
    return scaled
