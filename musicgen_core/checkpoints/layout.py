"""Model folders in the layout that `transformers` writes: config.json and safetensors, or pytorch_model.bin.

Official checkpoints (facebook/musicgen-*) load as they are. Tensors are read one at a time into their final
place, so that loading needs little more memory than the model itself.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from musicgen_core.checkpoints.hub import STYLE_REASON
from musicgen_core.errors import CheckpointError
from musicgen_core.lm.transformer import ACTIVATIONS, LanguageModel, LanguageModelConfig

__all__ = ["LanguageModelConfig", "load_language_model", "read_config", "read_weights"]

_DECODER = "decoder.model.decoder."
_PREFIXES = ("decoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj.")
# Positions are computed, not learnt; some checkpoints carry the table all the same.
_COMPUTED = frozenset({f"{_DECODER}embed_positions.weights"})


def read_config(folder: Path) -> LanguageModelConfig:
    """Read a folder's `config.json`. Raises CheckpointError where it is missing or not of a known kind.

    Absent fields have the defaults of `transformers`' configuration classes, which leave them out when they
    write.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind not in ("musicgen", "musicgen_melody"):
        reason = f". {STYLE_REASON}" if "style" in str(kind) else ""
        raise CheckpointError(f"{path}: model_type is {kind!r}; known are 'musicgen' and 'musicgen_melody'{reason}")
    try:
        config = _config(raw, melody=kind == "musicgen_melody")
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_config(config, path)
    return config


def read_weights(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Read the tensors whose names begin with `prefix` onto the CPU, named without it.

    Raises CheckpointError where a file is missing or broken.
    """
    return {name.removeprefix(prefix): tensor for name, tensor in _tensors(folder, (prefix,))}


def load_language_model(folder: Path, *, device: torch.device, dtype: torch.dtype, int8: bool = False) -> LanguageModel:
    """Load the language model of a folder, ready to run; `int8`: see `PackedLinear`.

    Raises CheckpointError, naming them, where tensors are missing, unknown or of the wrong shape.
    """
    config = read_config(folder)
    with torch.device("meta"):
        model = LanguageModel(config)
    model = model.to(dtype).to_empty(device=device).eval()
    targets = dict(model.named_parameters())
    places = _places(config)
    missing, unknown = set(places), []
    for name, tensor in _tensors(folder, _PREFIXES):
        if name in _COMPUTED:
            continue
        if name not in places:
            unknown.append(name)
            continue
        missing.discard(name)
        _copy(name, tensor, places[name].within(targets))
    if missing or unknown:
        raise CheckpointError(f"{folder}: {_listed('missing', missing)}, {_listed('unknown', unknown)}")
    model.pack(int8=int8)
    return model


@dataclass(frozen=True)
class _Place:
    """Where a checkpoint's tensor goes: rows of one of our parameters. stop None: to its end."""

    parameter: str
    start: int = 0
    stop: int | None = None

    def within(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The part of the model to write to."""
        return parameters[self.parameter].data[self.start : self.stop]


def _places(config: LanguageModelConfig) -> dict[str, _Place]:
    """Every tensor a checkpoint of this shape must hold, and its place in `LanguageModel`."""
    places = {}
    rows = config.vocabulary + 1
    for k in range(config.codebooks):
        places[f"{_DECODER}embed_tokens.{k}.weight"] = _Place("embedding", k * rows, (k + 1) * rows)
        start = k * config.vocabulary
        places[f"decoder.lm_heads.{k}.weight"] = _Place("head.weight", start, start + config.vocabulary)
    for layer in range(config.layers):
        places |= _layer_places(config, f"{_DECODER}layers.{layer}.", f"layers.{layer}.")
    projections = {"norm": (f"{_DECODER}layer_norm", True)}
    projections["text_projection"] = ("enc_to_dec_proj", config.text_dim != config.dim)
    projections["chroma_projection"] = (
        "audio_enc_to_dec_proj",
        config.is_melody and config.chroma_bins != config.dim,
    )
    for ours, (theirs, present) in projections.items():
        if present:
            places |= {f"{theirs}.{part}": _Place(f"{ours}.{part}") for part in ("weight", "bias")}
    return places


def _layer_places(config: LanguageModelConfig, theirs: str, ours: str) -> dict[str, _Place]:
    """One layer's part of `_places`; queries, keys and values are stacked in ours."""
    dim = config.dim
    places = {
        f"{theirs}self_attn.out_proj.weight": _Place(f"{ours}attention_out.weight"),
        f"{theirs}fc1.weight": _Place(f"{ours}feed_forward_in.weight"),
        f"{theirs}fc2.weight": _Place(f"{ours}feed_forward_out.weight"),
    }
    for index, part in enumerate("qkv"):
        place = _Place(f"{ours}qkv.weight", index * dim, (index + 1) * dim)
        places[f"{theirs}self_attn.{part}_proj.weight"] = place
    norms = {"self_attn_layer_norm": "attention_norm", "final_layer_norm": "feed_forward_norm"}
    if not config.is_melody:
        norms["encoder_attn_layer_norm"] = "condition_norm"
        attention = f"{theirs}encoder_attn."
        places[f"{attention}q_proj.weight"] = _Place(f"{ours}condition_query.weight")
        places[f"{attention}k_proj.weight"] = _Place(f"{ours}condition_kv.weight", 0, dim)
        places[f"{attention}v_proj.weight"] = _Place(f"{ours}condition_kv.weight", dim, 2 * dim)
        places[f"{attention}out_proj.weight"] = _Place(f"{ours}condition_out.weight")
    for name, norm in norms.items():
        places |= {f"{theirs}{name}.{part}": _Place(f"{ours}{norm}.{part}") for part in ("weight", "bias")}
    return places


def _copy(name: str, source: Tensor, target: Tensor) -> None:
    """Copy with conversion; unlike `copy_` alone, refuses to broadcast."""
    if source.shape != target.shape:
        raise CheckpointError(f"{name} has the shape {list(source.shape)}, the config asks for {list(target.shape)}")
    target.copy_(source)


def _listed(what: str, names: "set[str] | list[str]") -> str:
    """`3 missing (a, b, c)`, cut after a few names."""
    shown = sorted(names)[:5]
    more = ", ..." if len(names) > len(shown) else ""
    return f"{len(names)} tensors {what}" + (f" ({', '.join(shown)}{more})" if shown else "")


def _tensors(folder: Path, prefixes: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Read the tensors whose names begin with one of the prefixes, one at a time."""
    for path in _weight_files(folder):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt", device="cpu") as file:
                    for name in file.keys():  # noqa: SIM118 - not a mapping
                        if name.startswith(prefixes):
                            yield name, file.get_tensor(name)
            else:
                # weights_only: a pickle from elsewhere must not run code. mmap: nothing is read before it is
                # used.
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                yield from ((name, tensor) for name, tensor in state.items() if name.startswith(prefixes))
        except (OSError, SafetensorError, RuntimeError, ValueError, UnpicklingError) as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights: one, or the shards that an index lists; safetensors first."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise CheckpointError(f"{folder} holds neither model.safetensors nor pytorch_model.bin")


def _shards(index: Path) -> list[Path]:
    """The files an index names, each inside the index's own folder."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {index}: {error}") from error
    if any(Path(name).name != name for name in names):
        raise CheckpointError(f"{index} names files outside its folder")
    return [index.parent / name for name in names]


def _config(raw: Mapping[str, Any], *, melody: bool) -> LanguageModelConfig:
    """Map the fields, with the defaults of `transformers`."""
    decoder, text, audio = (raw.get(part) or {} for part in ("decoder", "text_encoder", "audio_encoder"))
    sample_rate = int(audio.get("sampling_rate", 24_000))
    samples_per_frame = math.prod(audio.get("upsampling_ratios", (8, 5, 4, 2)))
    return LanguageModelConfig(
        layers=int(decoder.get("num_hidden_layers", 24)),
        dim=int(decoder.get("hidden_size", 1024)),
        heads=int(decoder.get("num_attention_heads", 16)),
        ffn_dim=int(decoder.get("ffn_dim", 4096)),
        activation=str(decoder.get("activation_function", "gelu")),
        codebooks=int(decoder.get("num_codebooks", 4)),
        vocabulary=int(decoder.get("vocab_size", 2048)),
        audio_channels=int(decoder.get("audio_channels", 1)),
        text_dim=int(text.get("d_model", text.get("hidden_size", 512))),
        chroma_bins=int(raw.get("num_chroma", 12)) if melody else None,
        chroma_frames=int(raw.get("chroma_length", 235)) if melody else None,
        frame_rate=math.ceil(sample_rate / samples_per_frame),
        sample_rate=sample_rate,
    )


def _check_config(config: LanguageModelConfig, path: Path) -> None:
    """Refuse shapes that `LanguageModel` cannot take."""
    if config.activation not in ACTIVATIONS:
        raise CheckpointError(f"{path}: unknown activation_function {config.activation!r}")
    if config.audio_channels not in (1, 2) or config.codebooks % config.audio_channels:
        raise CheckpointError(
            f"{path}: {config.codebooks} codebooks do not make {config.audio_channels} audio channels"
        )
    sizes = (config.layers, config.dim, config.heads, config.ffn_dim, config.codebooks, config.vocabulary)
    if min(sizes) < 1 or config.dim % config.heads:
        raise CheckpointError(f"{path}: sizes must be positive and hidden_size a multiple of num_attention_heads")
