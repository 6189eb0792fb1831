"""The noise model: tiny, with random weights, in the folder layout that transformers' `save_pretrained` writes.

Tests run on it. Every part is real (T5, tokenizer, language model, EnCodec at 32 kHz and 50 frames per second), nothing
is downloaded, and its music is noise.
"""

from __future__ import annotations

import hashlib
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from musicgen_core.checkpoints.atomic_directory import atomic_directory
from musicgen_core.checkpoints.auxiliary_files import generation_fields, write_preprocessor

if TYPE_CHECKING:
    import torch
    from transformers.modeling_utils import PreTrainedModel

Kind = Literal["melody", "text", "stereo", "stereo-melody"]

TEXT_DIM = 32
DIM = 64
CODEC_DIM = 32
CODEBOOKS = 4
VOCABULARY = 2048
CHROMA_BINS = 12
CHROMA_FRAMES = 235
LAST_CONVOLUTION = "audio_encoder.decoder.layers.15."
OUTPUT_GAIN = 0.3
"""Norm of the codec's last filter, which gives random codes an RMS of about 0.1 (-20 dBFS)."""


def write_noise_model(folder: Path, *, kind: Kind = "melody", seed: int = 0) -> Path:
    """Write the model into `folder` and return the folder; takes a second or two.

    `kind`: "text" (mono), "melody" (mono, follows a melody), "stereo" or "stereo-melody". The same seed gives the same
    weights. The folder appears complete or not at all, so that processes that start together may all call this; an
    existing model is left as it is.
    """
    if (folder / "config.json").is_file():
        return folder
    try:
        with atomic_directory(folder) as unfinished:
            _write_parts(unfinished, kind, seed)
    except OSError:
        if not (folder / "config.json").is_file():
            raise  # no other process wrote it first: the folder holds something else, or cannot be written
    return folder


def _write_parts(folder: Path, kind: Kind, seed: int) -> None:
    import torch

    from musicgen_core.checkpoints.pretrained import quiet_transformers

    vocabulary = write_tokenizer(folder)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # the constructors draw numbers
        model = _build(kind, vocabulary)
        fill(model, seed)
        model.save_pretrained(folder)
    write_preprocessor(folder, melody="melody" in kind, channels=2 if "stereo" in kind else 1)


def write_tokenizer(folder: Path) -> int:
    """Write a T5 tokenizer of printable ASCII and all pairs of letters; returns the size of its vocabulary."""
    from transformers.models.t5.tokenization_t5 import T5Tokenizer

    letters = string.ascii_lowercase
    single = [character for character in string.printable if not character.isspace()]
    pairs = [first + second for first in letters for second in letters]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(piece, -8.0) for piece in [*single, *("▁" + character for character in single)]]
    pieces += [(pair, -10.0) for pair in pairs]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    tokenizer.save_pretrained(str(folder))
    return len(pieces)


def _build(kind: Kind, text_vocabulary: int) -> PreTrainedModel:
    """The untrained model, its weights still as the constructors left them."""
    from transformers.models.encodec.configuration_encodec import EncodecConfig
    from transformers.models.t5.configuration_t5 import T5Config

    text = T5Config(
        vocab_size=text_vocabulary, d_model=TEXT_DIM, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        feed_forward_proj="relu", dropout_rate=0.0,
    )  # fmt: skip
    codec = EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32_000, audio_channels=1, num_filters=4, hidden_size=CODEC_DIM,
        upsampling_ratios=[8, 5, 4, 4], codebook_size=VOCABULARY, use_causal_conv=False, num_lstm_layers=1,
        norm_type="weight_norm", use_conv_shortcut=False,
    )  # fmt: skip
    model = _assemble(kind, text, codec)
    # Recorded, so that nobody takes the noise for a trained model's failure.
    model.config.update({"random_weights": True})
    generation: Any = model.generation_config
    generation.update(**generation_fields(VOCABULARY))
    return model


def _assemble(kind: Kind, text: Any, codec: Any) -> PreTrainedModel:
    decoder: dict[str, Any] = {
        "hidden_size": DIM, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 4 * DIM,
        "dropout": 0.0, "vocab_size": VOCABULARY, "num_codebooks": CODEBOOKS, "audio_channels": 1,
    }  # fmt: skip
    if "stereo" in kind:
        decoder |= {"num_codebooks": 2 * CODEBOOKS, "audio_channels": 2}
    if "melody" in kind:
        from transformers.models.musicgen_melody import configuration_musicgen_melody as melody
        from transformers.models.musicgen_melody.modeling_musicgen_melody import (
            MusicgenMelodyForConditionalGeneration,
        )

        melody_config = melody.MusicgenMelodyConfig(
            text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder,
            num_chroma=CHROMA_BINS, chroma_length=CHROMA_FRAMES,
        )  # fmt: skip
        return MusicgenMelodyForConditionalGeneration(melody_config)
    from transformers.models.musicgen.configuration_musicgen import MusicgenConfig
    from transformers.models.musicgen.modeling_musicgen import MusicgenForConditionalGeneration

    config = MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder)
    return MusicgenForConditionalGeneration(config)


def fill(model: PreTrainedModel, seed: int) -> None:
    """Set every weight from `seed` and the weight's name, scaled so that signals keep about their size in each layer.

    The constructors' own weights are not used: they are drawn from torch's global state, in an order that may change
    with transformers, and EnCodec's codebooks are zero, which decodes to silence.
    """
    import torch

    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if tensor.is_floating_point():
                own_seed = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")
                _fill_tensor(name, tensor, torch.Generator().manual_seed(own_seed))


def _fill_tensor(name: str, tensor: torch.Tensor, generator: torch.Generator) -> None:
    if "audio_encoder." in name and _fill_codec_tensor(name, tensor, generator):
        return
    if "embed_positions" in name:
        return  # sinusoids, not learned
    if tensor.dim() == 1:
        tensor.fill_(1.0 if name.endswith("weight") else 0.0)  # layer norms; biases
    elif "embed_tokens" in name or "shared" in name or "relative_attention_bias" in name:
        tensor.normal_(0.0, 1.0, generator=generator)
    else:
        tensor.normal_(0.0, tensor[0].numel() ** -0.5, generator=generator)


def _fill_codec_tensor(name: str, tensor: torch.Tensor, generator: torch.Generator) -> bool:
    """Set a tensor that only EnCodec has; False for one that follows the general rule."""
    if name.endswith("inited"):
        return True
    if name.endswith("cluster_size"):
        tensor.fill_(1.0)
    elif name.endswith(("embed", "embed_avg")):
        # embed_avg is training's running sum; inference never reads it, so it need not agree with embed.
        tensor.normal_(0.0, 1.0, generator=generator)
    elif name.endswith(("weight_g", "original0")):
        # The norm of each channel's filter.
        tensor.fill_(OUTPUT_GAIN if name.startswith(LAST_CONVOLUTION) else 1.0)
    else:
        return False
    return True
