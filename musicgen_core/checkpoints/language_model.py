"""The language model of a model folder: where each of its tensors goes in `LanguageModel`.

The layout is the one that transformers writes; official checkpoints (facebook/musicgen-*) load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from musicgen_core.checkpoints.config import read_config
from musicgen_core.checkpoints.tensors import allocate, iterate_tensors, require_names
from musicgen_core.errors import CheckpointError
from musicgen_core.kernels.library import Kernels
from musicgen_core.lm.transformer import LanguageModel, LanguageModelConfig

DECODER = "decoder.model.decoder."
"""Prefix of the transformer's tensors."""
_PREFIXES = ("decoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj.")
# Positions are computed, not learnt; some checkpoints hold the table all the same.
_COMPUTED = frozenset({f"{DECODER}embed_positions.weights"})


def load_language_model(
    folder: Path, *, device: torch.device, dtype: torch.dtype, int8: bool = False, kernels: Kernels | None = None
) -> LanguageModel:
    """Load the language model of a folder, ready to run; `int8`, `kernels`: see `PackedLinear.pack`.

    Raises CheckpointError, which names the tensors, where some are missing, unknown or of the wrong shape.
    """
    config = read_config(folder)
    with torch.device("meta"):
        model = LanguageModel(config)
    allocate(model, device=device, dtype=dtype)
    model.eval()
    targets = dict(model.named_parameters())
    places = places_of(config)
    found = set()
    for name, tensor in iterate_tensors(folder, _PREFIXES):
        found.add(name)
        if name in places:
            _copy(name, tensor, places[name].within(targets))
    require_names(folder, expected=places.keys(), found=found - _COMPUTED)
    model.pack(int8=int8, kernels=kernels)
    return model


@dataclass(frozen=True)
class Place:
    """The rows of a parameter of `LanguageModel` that a checkpoint's tensor is copied to."""

    parameter: str
    start: int = 0
    stop: int | None = None
    """None: to the parameter's end."""

    def within(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The view of the model's parameters to copy to."""
        return parameters[self.parameter].data[self.start : self.stop]


def places_of(config: LanguageModelConfig) -> dict[str, Place]:
    """The tensors that a checkpoint of this shape must hold, each with its place in `LanguageModel`."""
    places = {}
    rows = config.vocabulary + 1
    for k in range(config.codebooks):
        places[f"{DECODER}embed_tokens.{k}.weight"] = Place("embedding", k * rows, (k + 1) * rows)
        start = k * config.vocabulary
        places[f"decoder.lm_heads.{k}.weight"] = Place("head.weight", start, start + config.vocabulary)
    for layer in range(config.layers):
        places |= _layer_places(config, f"{DECODER}layers.{layer}.", f"layers.{layer}.")
    places |= _affine_places(f"{DECODER}layer_norm", "norm")
    if config.text_dim != config.dim:
        places |= _affine_places("enc_to_dec_proj", "text_projection")
    if config.is_melody and config.chroma_bins != config.dim:
        places |= _affine_places("audio_enc_to_dec_proj", "chroma_projection")
    return places


def _layer_places(config: LanguageModelConfig, stored: str, layer: str) -> dict[str, Place]:
    """The places of one layer's tensors; `LanguageModel` stacks queries, keys and values."""
    dim = config.dim
    places = {
        f"{stored}self_attn.out_proj.weight": Place(f"{layer}attention_out.weight"),
        f"{stored}fc1.weight": Place(f"{layer}feed_forward_in.weight"),
        f"{stored}fc2.weight": Place(f"{layer}feed_forward_out.weight"),
    }
    for index, part in enumerate("qkv"):
        place = Place(f"{layer}qkv.weight", index * dim, (index + 1) * dim)
        places[f"{stored}self_attn.{part}_proj.weight"] = place
    norms = {"self_attn_layer_norm": "attention_norm", "final_layer_norm": "feed_forward_norm"}
    if not config.is_melody:
        norms["encoder_attn_layer_norm"] = "condition_norm"
        attention = f"{stored}encoder_attn."
        places[f"{attention}q_proj.weight"] = Place(f"{layer}condition_query.weight")
        places[f"{attention}k_proj.weight"] = Place(f"{layer}condition_kv.weight", 0, dim)
        places[f"{attention}v_proj.weight"] = Place(f"{layer}condition_kv.weight", dim, 2 * dim)
        places[f"{attention}out_proj.weight"] = Place(f"{layer}condition_out.weight")
    for name, norm in norms.items():
        places |= _affine_places(f"{stored}{name}", f"{layer}{norm}")
    return places


def _affine_places(stored: str, module: str) -> dict[str, Place]:
    """The places of a module's weight and bias."""
    return {f"{stored}.{part}": Place(f"{module}.{part}") for part in ("weight", "bias")}


def _copy(name: str, source: Tensor, target: Tensor) -> None:
    """Copy and convert to the target's type; unlike `Tensor.copy_`, refuse to broadcast."""
    if source.shape != target.shape:
        raise CheckpointError(f"{name} has the shape {list(source.shape)}, the config asks for {list(target.shape)}")
    target.copy_(source)
