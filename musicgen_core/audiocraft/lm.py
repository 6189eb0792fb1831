"""audiocraft's language model (`LMModel`): its shape, and the names of its tensors in transformers.

Only MusicGen's kinds are supported: text through cross-attention, or melody and text before the sequence; mono, or with
the codebooks of left and right interleaved. Other models that audiocraft can train are refused by the setting's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from musicgen_core.audiocraft.checkpoint import AudiocraftCheckpoint, Source, TrainingConfig, rename
from musicgen_core.checkpoints.hub import STYLE_REASON
from musicgen_core.checkpoints.language_model import DECODER
from musicgen_core.conditioning.melody import HOP
from musicgen_core.errors import CheckpointError
from musicgen_core.lm.delay_pattern import codebook_delays
from musicgen_core.lm.transformer import ACTIVATIONS

CONDITIONERS = "condition_provider.conditioners."
COMPUTED = f"{CONDITIONERS}self_wav.chroma.spec.window"
"""A tensor of melody models that needs no conversion, because it can be computed."""

SUPPORTED: Mapping[str, Any] = {
    "lm_model": "transformer_lm",
    "transformer_lm.norm": "layer_norm",
    "transformer_lm.norm_first": True,
    "transformer_lm.causal": True,
    "transformer_lm.past_context": None,
    "transformer_lm.positional_embedding": "sin",
    "transformer_lm.max_period": 10_000,
    "transformer_lm.positional_scale": 1,
    "transformer_lm.layer_scale": None,
    "transformer_lm.qk_layer_norm": False,
    "transformer_lm.qk_layer_norm_cross": False,
    "transformer_lm.kv_repeat": 1,
    "fuser.cross_attention_pos_emb": False,
    "fuser.sum": [],
    "fuser.input_interpolate": [],
    "codebooks_pattern.delay.flatten_first": 0,
    "codebooks_pattern.delay.empty_initial": 0,
    "interleave_stereo_codebooks.per_timestep": False,
    "conditioners.description.model": "t5",
    "conditioners.description.t5.finetune": False,
    "conditioners.description.t5.normalize_text": False,
    "conditioners.self_wav.model": "chroma_stem",
    "conditioners.self_wav.chroma_stem.radix2_exp": 14,
    "conditioners.self_wav.chroma_stem.argmax": True,
}
"""The settings of the models that the engine can run; other values would give different music."""


@dataclass(frozen=True)
class LanguageModelShape:
    """The shape of a checkpoint's language model; fields as in `LanguageModelConfig`, but for the optional ones."""

    layers: int
    dim: int
    heads: int
    ffn_dim: int
    activation: str
    codebooks: int
    vocabulary: int
    audio_channels: int
    text_dim: int
    t5: str | None
    """Name of the text encoder; None if the configuration does not name it."""
    chroma_bins: int | None
    chroma_frames: int | None
    sample_rate: int | None
    """Of the codec, Hz; None if the configuration does not say."""

    @property
    def is_melody(self) -> bool:
        """Whether it follows a melody."""
        return self.chroma_bins is not None


def read_shape(checkpoint: AudiocraftCheckpoint) -> LanguageModelShape:
    """Read a checkpoint's shape from its weights and its configuration.

    Raises CheckpointError where they disagree, and where the model is not supported.
    """
    melody = _follows_melody(checkpoint)
    checkpoint.config.require(SUPPORTED)
    try:
        shape = _read_shape(checkpoint, melody=melody)
        _check_shape(checkpoint, shape)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{checkpoint.path}: its configuration (xp.cfg) is inconsistent: {error}.") from error
    return shape


def rename_language_model(checkpoint: AudiocraftCheckpoint, shape: LanguageModelShape) -> dict[str, Tensor]:
    """A checkpoint's tensors under transformers' names (see `rename`). Raises CheckpointError."""
    return rename(checkpoint, _sources(shape), ignored=(COMPUTED,))


def _read_shape(checkpoint: AudiocraftCheckpoint, *, melody: bool) -> LanguageModelShape:
    config = checkpoint.config
    embedding, inner = _sizes(checkpoint, "emb.0.weight"), _sizes(checkpoint, "transformer.layers.0.linear1.weight")
    return LanguageModelShape(
        layers=_count(checkpoint, r"transformer\.layers\.(\d+)\."),
        dim=embedding[1],
        heads=config.number("transformer_lm.num_heads"),
        ffn_dim=inner[0],
        activation=config.get("transformer_lm.activation", "relu"),  # as in torch's TransformerEncoderLayer
        codebooks=_count(checkpoint, r"emb\.(\d+)\."),
        vocabulary=embedding[0] - 1,
        audio_channels=2 if config.get("interleave_stereo_codebooks.use") else 1,
        text_dim=_sizes(checkpoint, f"{CONDITIONERS}description.output_proj.weight")[1],
        t5=config.get("conditioners.description.t5.name"),
        chroma_bins=_sizes(checkpoint, f"{CONDITIONERS}self_wav.output_proj.weight")[1] if melody else None,
        chroma_frames=_chroma_frames(config) if melody else None,
        sample_rate=config.get("sample_rate"),
    )


def _follows_melody(checkpoint: AudiocraftCheckpoint) -> bool:
    """Whether it is a melody model or a text model. Raises CheckpointError for any other kind."""
    config, path = checkpoint.config, checkpoint.path
    kinds = {name: config.get(f"conditioners.{name}.model") for name in config.names("conditioners") if name != "args"}
    if "style" in kinds.values():
        raise CheckpointError(f"{path} is a style model: {STYLE_REASON}")
    prepended, crossed = config.names("fuser.prepend"), config.names("fuser.cross")
    if kinds.keys() == crossed == {"description"} and not prepended:
        return False
    if kinds.keys() == prepended == {"self_wav", "description"} and not crossed:
        return True
    raise CheckpointError(
        f"{path} is conditioned on {kinds}; prepended: {sorted(prepended)}; by cross-attention: {sorted(crossed)}. "
        "MusicGen's kinds are description (t5) by cross-attention, and self_wav (chroma_stem) and description (t5), "
        "both prepended."
    )


def _chroma_frames(config: TrainingConfig) -> int:
    """Frames of a melody of the length that the model was trained on."""
    seconds = float(config.get("dataset.segment_duration", 30))
    sample_rate = config.get("conditioners.self_wav.chroma_stem.sample_rate", config.get("sample_rate", 32_000))
    return 1 + int(seconds * sample_rate) // HOP


def _check_shape(checkpoint: AudiocraftCheckpoint, shape: LanguageModelShape) -> None:
    config, path = checkpoint.config, checkpoint.path
    config.require_agreement(
        {
            "transformer_lm.num_layers": shape.layers,
            "transformer_lm.dim": shape.dim,
            "transformer_lm.n_q": shape.codebooks,
            "transformer_lm.card": shape.vocabulary,
        }
    )
    scale = config.get("transformer_lm.hidden_scale")
    if scale is not None and int(scale * shape.dim) != shape.ffn_dim:
        raise CheckpointError(f"{path} contradicts itself: hidden_scale {scale} of {shape.dim} is not {shape.ffn_dim}.")
    if shape.activation not in ACTIVATIONS or shape.dim % shape.heads:
        raise CheckpointError(
            f"{path}: activation {shape.activation!r} and {shape.heads} heads of {shape.dim} values are not supported."
        )
    pattern = config.get("codebooks_pattern.modeling") or config.get("transformer_lm.q_modeling")
    expected = list(codebook_delays(shape.codebooks, shape.audio_channels))
    delays = config.get("codebooks_pattern.delay.delays", list(range(shape.codebooks)))
    if pattern != "delay" or delays != expected:
        raise CheckpointError(f"{path}: its codebook pattern is {pattern} {delays}; supported is delay {expected}.")
    if shape.dim in (shape.text_dim, shape.chroma_bins):
        raise CheckpointError(
            f"{path}: the text encoder (or the melody) is as wide as the language model, {shape.dim}. transformers' "
            "layout has no place for the projection between the two, so it cannot be converted."
        )


def _sizes(checkpoint: AudiocraftCheckpoint, name: str) -> tuple[int, int]:
    """The shape of a matrix. Raises CheckpointError where it is missing."""
    tensor = checkpoint.tensors.get(name)
    if tensor is None or tensor.dim() != 2:
        raise CheckpointError(f"{checkpoint.path} holds no matrix {name}; is it a MusicGen language model?")
    return tensor.shape[0], tensor.shape[1]


def _count(checkpoint: AudiocraftCheckpoint, pattern: str) -> int:
    """The number of different indices that `pattern` finds in the tensors' names."""
    return len({found[1] for found in map(re.compile(pattern).match, checkpoint.tensors) if found})


def _sources(shape: LanguageModelShape) -> dict[str, Source]:
    """The tensors of a checkpoint of this shape, by their names in audiocraft."""
    dim, sources = shape.dim, {}
    for k in range(shape.codebooks):
        sources[f"emb.{k}.weight"] = Source((shape.vocabulary + 1, dim), (f"{DECODER}embed_tokens.{k}.weight",))
        sources[f"linears.{k}.weight"] = Source((shape.vocabulary, dim), (f"decoder.lm_heads.{k}.weight",))
    for layer in range(shape.layers):
        sources |= _layer_sources(shape, f"transformer.layers.{layer}.", f"{DECODER}layers.{layer}.")
    sources |= _affine("out_norm", f"{DECODER}layer_norm", (dim,))
    sources |= _affine(f"{CONDITIONERS}description.output_proj", "enc_to_dec_proj", (dim, shape.text_dim))
    if shape.chroma_bins is not None:
        sources |= _affine(f"{CONDITIONERS}self_wav.output_proj", "audio_enc_to_dec_proj", (dim, shape.chroma_bins))
    return sources


def _layer_sources(shape: LanguageModelShape, source: str, target: str) -> dict[str, Source]:
    dim, ffn_dim = shape.dim, shape.ffn_dim
    sources = _attention(f"{source}self_attn.", f"{target}self_attn.", dim)
    sources |= _affine(f"{source}norm1", f"{target}self_attn_layer_norm", (dim,))
    sources |= _affine(f"{source}norm2", f"{target}final_layer_norm", (dim,))
    sources[f"{source}linear1.weight"] = Source((ffn_dim, dim), (f"{target}fc1.weight",))
    sources[f"{source}linear2.weight"] = Source((dim, ffn_dim), (f"{target}fc2.weight",))
    if not shape.is_melody:
        sources |= _attention(f"{source}cross_attention.", f"{target}encoder_attn.", dim)
        sources |= _affine(f"{source}norm_cross", f"{target}encoder_attn_layer_norm", (dim,))
    return sources


def _attention(source: str, target: str, dim: int) -> dict[str, Source]:
    """An attention's matrices; audiocraft stacks queries, keys and values."""
    return {
        f"{source}in_proj_weight": Source((3 * dim, dim), tuple(f"{target}{part}_proj.weight" for part in "qkv")),
        f"{source}out_proj.weight": Source((dim, dim), (f"{target}out_proj.weight",)),
    }


def _affine(source: str, target: str, shape: tuple[int, ...]) -> dict[str, Source]:
    """A weight of this shape and its bias."""
    return {
        f"{source}.weight": Source(shape, (f"{target}.weight",)),
        f"{source}.bias": Source(shape[:1], (f"{target}.bias",)),
    }
