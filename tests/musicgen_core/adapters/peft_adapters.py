"""Random adapters, made and merged by peft on transformers' models, and the same adapters as ours."""

from __future__ import annotations

import functools
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from musicgen_core.adapters.adapter import Adapter, AdapterUse
from musicgen_core.adapters.peft_format import load_adapter
from musicgen_core.engine.request import Request
from tests.musicgen_core.reference import Kind, build, mixed_requests, reference

TARGETS = (
    *("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "enc_to_dec_proj", "audio_enc_to_dec_proj"),
    *(f"{module}.{codebook}" for module in ("lm_heads", "embed_tokens") for codebook in range(8)),
)
"""All that the community's training scripts change, for models of up to eight codebooks."""
ATTENTION = ("q_proj", "v_proj")
RANKS = ((4, ATTENTION), (8, TARGETS), (32, TARGETS))


@dataclass(frozen=True)
class Made:
    """An adapter, and what it makes of the model."""

    ours: Adapter
    merged: Any
    """transformers' model with the adapter merged into its weights."""


def write_adapter(folder: Path, model: Any, seed: int = 0, **config: Any) -> Any:
    """Write a random adapter of peft for transformers' model, which it wraps; returns it wrapped."""
    settings = {"r": 8, "lora_alpha": 12, "target_modules": list(TARGETS)} | config
    with warnings.catch_warnings():
        # peft asks transformers for what transformers has renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        wrapped = get_peft_model(model, LoraConfig(**settings))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_" in name:  # B too, which peft begins with zeros
                    parameter.normal_(0.0, 0.3 / parameter.shape[0 if "_A" in name else 1] ** 0.25, generator=generator)
        wrapped.save_pretrained(folder)
    return wrapped


@functools.cache
def make_adapter(
    kind: Kind, rank: int = 8, seed: int = 0, targets: tuple[str, ...] = TARGETS, *, rslora: bool = False
) -> Made:
    """An adapter for a kind's reference model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / f"adapter-{seed}"
        wrapped = write_adapter(
            folder, build(kind), seed, r=rank, lora_alpha=rank, target_modules=list(targets), use_rslora=rslora
        )
        return Made(load_adapter(folder, reference(kind).ours.config), wrapped.merge_and_unload().eval())


def with_adapter(request: Request, adapter: Adapter, strength: float = 1.0) -> Request:
    return replace(request, adapter=AdapterUse(adapter, strength))


def adapted_requests(kind: Kind) -> list[Request]:
    """Requests of all sorts with three adapters of several ranks and strengths, and without."""
    adapters = [None, *(make_adapter(kind, rank, rank, targets).ours for rank, targets in RANKS)]
    requests = mixed_requests(kind)
    return [
        request if (adapter := adapters[index % 4]) is None else with_adapter(request, adapter, 0.5 + index % 3 * 0.5)
        for index, request in enumerate([*requests, *requests[:3]])
    ]
