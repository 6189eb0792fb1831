"""Converts audiocraft's checkpoints, official and fine-tuned, into a model folder as transformers writes it.

The language model comes from the checkpoint, with the codec if there is one beside it. T5 with its tokenizer comes from
the folder of a base model, and so does a missing codec. Tensors go from file to file through memory maps, which takes
little more memory than the weights themselves.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor

from musicgen_core.audiocraft.checkpoint import read_checkpoint
from musicgen_core.audiocraft.codec import convert_codec
from musicgen_core.audiocraft.hub import CODEC_FILE, LANGUAGE_MODEL_FILE
from musicgen_core.audiocraft.lm import LanguageModelShape, read_shape, rename_language_model
from musicgen_core.checkpoints.atomic_directory import atomic_directory
from musicgen_core.checkpoints.auxiliary_files import generation_fields, write_preprocessor
from musicgen_core.checkpoints.config import read_config
from musicgen_core.checkpoints.pretrained import quiet_transformers
from musicgen_core.checkpoints.tensors import read_weights
from musicgen_core.conditioning.text import TOKENIZER_FILES
from musicgen_core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers.configuration_utils import PretrainedConfig

OFFICIAL_CODEC = "facebook/encodec_32khz"
"""The codec of all official models; audiocraft's checkpoints may name it instead of holding it."""
TOKENIZER_AUXILIARY_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

Part = tuple["PretrainedConfig", dict[str, Tensor]]
"""The configuration of a model's part, and its tensors by their names in the whole model."""


def convert(source: Path, base: Path, output: Path) -> None:
    """Write the model folder `output`, which appears complete or not at all; tensors keep their types.

    `source`: audiocraft's checkpoint: a folder with state_dict.bin, and compression_state_dict.bin if it has its own
    codec, or the file of a language model. `base`: the folder of any model with the same T5, such as
    facebook/musicgen-small's. Raises CheckpointError, whose message says what to do.
    """
    require_free(output)
    weights, codec_file = _files(source)
    checkpoint = read_checkpoint(weights)
    if checkpoint.pretrained is not None:
        raise CheckpointError(f"{weights} holds no weights, only the name {checkpoint.pretrained}; convert that model.")
    shape = read_shape(checkpoint)
    tensors = rename_language_model(checkpoint, shape)
    text, codec = _text_part(base, shape), _codec_part(base, codec_file, shape)
    _require_known_codec(weights, codec_file, str(checkpoint.config.get("compression_model_checkpoint", "")))
    with atomic_directory(output) as folder:
        _write_configs(folder, shape, text[0], codec[0])
        _copy_tokenizer(base, folder)
        save_file(tensors | text[1] | codec[1], folder / "model.safetensors", metadata={"format": "pt"})


def require_free(output: Path) -> None:
    """Raise CheckpointError unless a folder can be written at `output`."""
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists():
        raise CheckpointError(f"{output} exists already; choose another output folder, or remove it.")


def _files(source: Path) -> tuple[Path, Path | None]:
    """The language model's file, and the codec's file if the source is a folder that has one."""
    if not source.is_dir():
        return source, None
    codec = source / CODEC_FILE
    return source / LANGUAGE_MODEL_FILE, codec if codec.is_file() else None


def _text_part(base: Path, shape: LanguageModelShape) -> Part:
    """T5 of the base model. Raises CheckpointError unless the language model was trained with it."""
    from transformers.models.t5.configuration_t5 import T5Config

    section = _section(base, "text_encoder")
    config = T5Config(**section)
    name = shape.t5 or "its T5"
    # T5 and flan-T5 have the same sizes; only flan-T5's feed-forward is gated.
    if config.d_model != shape.text_dim or config.is_gated_act != ("flan" in name):
        raise CheckpointError(
            f"The language model was trained with {name}, {shape.text_dim} wide; the base model {base} has another, "
            f"{config.d_model} wide. Give --base a model with the same T5; MusicGen's own have t5-base."
        )
    tensors = read_weights(base, "text_encoder.")
    if "shared.weight" in tensors:
        tensors.pop("encoder.embed_tokens.weight", None)  # the same table; safetensors refuses two names for it
    return config, {f"text_encoder.{name}": tensor for name, tensor in tensors.items()}


def _codec_part(base: Path, file: Path | None, shape: LanguageModelShape) -> Part:
    """The checkpoint's own codec, or the base model's where the checkpoint has none or names the official one."""
    from transformers.models.encodec.configuration_encodec import EncodecConfig

    quantizers = shape.codebooks // shape.audio_channels
    checkpoint = None if file is None else read_checkpoint(file)
    if checkpoint is None or checkpoint.pretrained == OFFICIAL_CODEC:
        origin, config = base, EncodecConfig(**_section(base, "audio_encoder"))
        tensors = read_weights(base, "audio_encoder.")
    elif checkpoint.pretrained is None:
        origin, (config, tensors) = checkpoint.path, convert_codec(checkpoint, quantizers=quantizers)
    else:
        raise CheckpointError(f"{file} names the codec {checkpoint.pretrained}; only {OFFICIAL_CODEC} is supported.")
    wanted = (quantizers, shape.vocabulary, shape.sample_rate or config.sampling_rate)
    if (config.num_quantizers, config.codebook_size, config.sampling_rate) != wanted:
        raise CheckpointError(
            f"The language model has {wanted[0]} codebooks of {wanted[1]} codes at {wanted[2]} Hz; the codec in "
            f"{origin} has {config.num_quantizers} of {config.codebook_size} at {config.sampling_rate} Hz."
        )
    return config, {f"audio_encoder.{name}": tensor for name, tensor in tensors.items()}


def _require_known_codec(weights: Path, codec_file: Path | None, trained_on: str) -> None:
    """Raise CheckpointError where the codec that the language model was trained with is missing."""
    prefix = "//pretrained/"
    if codec_file is None and trained_on.startswith(prefix) and trained_on != f"{prefix}{OFFICIAL_CODEC}":
        raise CheckpointError(
            f"{weights} was trained with the codec {trained_on.removeprefix(prefix)}, which is not the base model's. "
            f"Put it beside the weights, as {CODEC_FILE}, and give their folder."
        )


def _section(base: Path, name: str) -> dict[str, Any]:
    """A section of the base model's config.json. Raises CheckpointError where it is missing."""
    try:
        section = json.loads((base / "config.json").read_text(encoding="utf-8"))[name]
        return dict(section)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The base model's {base / 'config.json'} cannot be used: {error!r}.") from error


def _copy_tokenizer(base: Path, folder: Path) -> None:
    if not any((base / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError(f"The base model {base} has no tokenizer; one of {', '.join(TOKENIZER_FILES)} is needed.")
    for name in (*TOKENIZER_FILES, *TOKENIZER_AUXILIARY_FILES):
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def _write_configs(folder: Path, shape: LanguageModelShape, text: PretrainedConfig, codec: Any) -> None:
    from transformers.generation.configuration_utils import GenerationConfig

    with quiet_transformers():
        _model_config(shape, text, codec).save_pretrained(folder)
        GenerationConfig(**generation_fields(shape.vocabulary)).save_pretrained(folder)  # type: ignore[no-untyped-call]
    melody = {"chroma_bins": shape.chroma_bins} if shape.chroma_bins is not None else {}
    write_preprocessor(
        folder, melody=shape.is_melody, channels=shape.audio_channels, sample_rate=codec.sampling_rate, **melody
    )
    read_config(folder)  # raises CheckpointError unless our engine supports it


def _model_config(shape: LanguageModelShape, text: PretrainedConfig, codec: PretrainedConfig) -> PretrainedConfig:
    from transformers.models.musicgen.configuration_musicgen import MusicgenConfig
    from transformers.models.musicgen_melody.configuration_musicgen_melody import MusicgenMelodyConfig

    decoder = {
        "num_hidden_layers": shape.layers, "hidden_size": shape.dim, "num_attention_heads": shape.heads,
        "ffn_dim": shape.ffn_dim, "activation_function": shape.activation, "vocab_size": shape.vocabulary,
        "pad_token_id": shape.vocabulary, "bos_token_id": shape.vocabulary, "num_codebooks": shape.codebooks,
        "audio_channels": shape.audio_channels, "dropout": 0.0,
    }  # fmt: skip
    parts: dict[str, Any] = {"text_encoder": text.to_dict(), "audio_encoder": codec.to_dict(), "decoder": decoder}
    # float32 is the type of T5 and EnCodec; transformers would otherwise run them in the language model's type.
    if shape.chroma_bins is not None and shape.chroma_frames is not None:
        config: PretrainedConfig = MusicgenMelodyConfig(
            **parts, num_chroma=shape.chroma_bins, chroma_length=shape.chroma_frames, dtype="float32"
        )
        config.architectures = ["MusicgenMelodyForConditionalGeneration"]
        return config
    config = MusicgenConfig(**parts, dtype="float32")
    config.architectures = ["MusicgenForConditionalGeneration"]
    return config
