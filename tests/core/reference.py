"""Small models of transformers with random weights, the same weights in ours, and transformers' own answers."""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyForConditionalGeneration,
    T5Config,
)

from musicgen_core.checkpoints import load_language_model
from musicgen_core.engine import Conditions
from musicgen_core.transformer import LanguageModel

Kind = Literal["text", "melody", "stereo"]
KINDS: tuple[Kind, ...] = ("text", "melody", "stereo")

VOCABULARY = 128
TEXT_DIM = 32
CHROMA_BINS = 12
CHROMA_FRAMES = 20
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Reference:
    """transformers' model and ours, with equal weights."""

    theirs: Any
    ours: LanguageModel


def build(kind: Kind, seed: int = 0) -> Any:
    """A random model of transformers; weights large enough that logits are far apart and ties do not occur."""
    torch.manual_seed(seed)
    text = T5Config(vocab_size=50, d_model=TEXT_DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    codec = EncodecConfig(
        target_bandwidths=[1.4],
        sampling_rate=32_000,
        num_filters=4,
        hidden_size=8,
        upsampling_ratios=[8, 5, 4, 4],
        codebook_size=VOCABULARY,
        num_lstm_layers=1,
    )
    decoder = {
        "vocab_size": VOCABULARY,
        "pad_token_id": VOCABULARY,
        "bos_token_id": VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "ffn_dim": 128,
        "num_codebooks": 8 if kind == "stereo" else 4,
        "audio_channels": 2 if kind == "stereo" else 1,
        "dropout": 0.0,
    }
    parts = {"text_encoder": text.to_dict(), "audio_encoder": codec.to_dict(), "decoder": decoder}
    model: Any
    if kind == "melody":
        config = MusicgenMelodyConfig(**parts, num_chroma=CHROMA_BINS, chroma_length=CHROMA_FRAMES)
        model = MusicgenMelodyForConditionalGeneration(config)
    else:
        model = MusicgenForConditionalGeneration(MusicgenConfig(**parts))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("audio_encoder"):
                parameter.normal_(1.0 if "norm.weight" in name else 0.0, 1.0 if "embed" in name else 0.3)
    start = {"bos_token_id": VOCABULARY, "pad_token_id": VOCABULARY, "decoder_start_token_id": VOCABULARY}
    model.generation_config.update(**start, max_length=1500)
    return model.eval()


@functools.cache
def reference(kind: Kind) -> Reference:
    """The pair of models of a kind, by way of a checkpoint on disk."""
    theirs = build(kind)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_language_model(Path(folder), device=CPU, dtype=torch.float32)
    return Reference(theirs, ours)


def text_tokens(count: int, seed: int = 0) -> Tensor:
    """Text token ids [1, count]."""
    return torch.randint(1, 50, (1, count), generator=torch.Generator().manual_seed(seed))


def chroma(frames: int, seed: int = 0) -> Tensor:
    """A melody [frames, CHROMA_BINS]."""
    return torch.rand(frames, CHROMA_BINS, generator=torch.Generator().manual_seed(seed))


def prompt(kind: Kind, frames: int, seed: int = 0) -> Tensor:
    """Codes of audio to continue, [codebooks, frames]."""
    codebooks = reference(kind).ours.config.codebooks
    return torch.randint(VOCABULARY, (codebooks, frames), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def conditions(kind: Kind, tokens: Tensor, melody: Tensor | None = None) -> Conditions:
    """Our conditions for text token ids [1, tokens] and a melody."""
    return Conditions(reference(kind).theirs.text_encoder(tokens).last_hidden_state[0], melody)


def their_codes(
    kind: Kind,
    tokens: Tensor,
    *,
    frames: int,
    guidance: float,
    melody: Tensor | None = None,
    prompt_codes: Tensor | None = None,
    ignore_text: bool = False,
) -> Tensor:
    """The codes [codebooks, frames] that transformers' `generate` finds greedily, taken where it decodes
    them.
    """
    model, decoded = reference(kind).theirs, []
    decode = model.audio_encoder.decode

    def record(codes: Tensor, **rest: Any) -> Any:
        decoded.append(codes[0, 0])
        return decode(codes, **rest)

    mask = torch.zeros_like(tokens) if ignore_text else torch.ones_like(tokens)
    inputs: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask}
    if melody is not None:
        inputs["input_features"] = melody[None]
    if prompt_codes is not None:
        inputs["decoder_input_ids"] = prompt_codes
    longest_delay = 3
    model.audio_encoder.decode = record
    try:
        model.generate(**inputs, do_sample=False, guidance_scale=guidance, max_new_tokens=frames + longest_delay)
    finally:
        model.audio_encoder.decode = decode
    return torch.stack(decoded, dim=1).flatten(0, 1)  # stereo: left and right alternate
