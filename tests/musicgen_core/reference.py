"""Small random models of transformers, the same weights in ours, and requests for both."""

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

from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.codec.encodec import Codec
from musicgen_core.engine.batch_decoder import BatchDecoder
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.executor import run_to_end
from musicgen_core.kernels.library import Kernels, choose_kernels
from musicgen_core.lm.transformer import LanguageModel

Kind = Literal["text", "melody", "stereo", "stereo-melody"]
KINDS: tuple[Kind, ...] = ("text", "melody", "stereo", "stereo-melody")
Packing = Kernels | Literal["fastest", "torch"]
"""What a model is packed for: kernels, this machine's fastest as in the service, or torch."""

VOCABULARY = 128
TEXT_DIM = 32
CHROMA_BINS = 12
CHROMA_FRAMES = 20
CPU = torch.device("cpu")
GREEDY = SamplingParams(temperature=0)


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
        "num_codebooks": 8 if "stereo" in kind else 4,
        "audio_channels": 2 if "stereo" in kind else 1,
        "dropout": 0.0,
    }
    parts: Any = {"text_encoder": text.to_dict(), "audio_encoder": codec.to_dict(), "decoder": decoder}
    model: Any
    if "melody" in kind:
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


def reference(kind: Kind, *, int8: bool = False, kernels: Packing = "fastest") -> Reference:
    """The pair of models of a kind, by way of a checkpoint on disk."""
    chosen = choose_kernels() if kernels == "fastest" else None if kernels == "torch" else kernels
    return Reference(_theirs(kind), _ours(kind, int8, chosen))


@functools.cache
def _theirs(kind: Kind) -> Any:
    return build(kind)


@functools.cache
def _ours(kind: Kind, int8: bool, kernels: Kernels | None) -> LanguageModel:
    with tempfile.TemporaryDirectory() as folder:
        _theirs(kind).save_pretrained(folder)
        return load_language_model(Path(folder), device=CPU, dtype=torch.float32, int8=int8, kernels=kernels)


def our_codec(theirs: Any, *, channels: int = 1) -> Codec:
    """The codec with the weights of transformers' EncodecModel."""
    return Codec(theirs.config.to_dict(), theirs.state_dict(), channels=channels, device=theirs.device)


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
    theirs: Any = None,
) -> Tensor:
    """The codes [codebooks, frames] that transformers' `generate` finds greedily, taken where it decodes
    them. `theirs`: instead of the kind's own model.
    """
    model, decoded = theirs or reference(kind).theirs, []
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


def make_engine(
    kind: Kind = "text", requests: int = 4, *, int8: bool = False, kernels: Packing = "fastest", **rest: Any
) -> Engine:
    """An engine for up to 220 frames and 16 text tokens."""
    model = reference(kind, int8=int8, kernels=kernels).ours
    return Engine(model, max_requests=requests, max_frames=220, max_text_tokens=16, **rest)


def drive(engine: Engine) -> None:
    """Step until there is nothing left to do."""
    while engine.step():
        pass


def run(engine: Engine, *requests: Request) -> list[Tensor]:
    """Each request's codes, all submitted at once."""
    generations = [engine.submit(request) for request in requests]
    drive(engine)
    return [generation.codes() for generation in generations]


def run_in_turns(decoder: BatchDecoder, *requests: Request) -> list[Tensor]:
    """Each request's codes, from a decoder of four slots: they join one by one, run beside each other, and leave."""
    waiting, codes = list(enumerate(requests)), {}
    running: dict[int, tuple[int, int]] = {}  # slot -> the request's index, steps left
    turn = 0
    while waiting or running:
        free = [slot for slot in range(4) if slot not in running]
        if waiting and free and turn % 5 == 0:
            index, request = waiting.pop(0)
            run_to_end(decoder.admit(free[0], request))
            running[free[0]] = index, decoder.steps(request.frames)
        turn += 1
        if not running:
            continue
        decoder.step()
        for slot, (index, left) in tuple(running.items()):
            running[slot] = index, left - 1
            if left == 1:
                codes[index] = decoder.codes(slot)
                decoder.release(slot)
                del running[slot]
    return [codes[index] for index in range(len(requests))]


def make_request(kind: Kind = "text", frames: int = 10, seed: int = 0, **sampling: Any) -> Request:
    """A request with a text, and a melody where the model follows one, that depend on the seed."""
    melody = chroma(8, seed) if "melody" in kind else None
    given = conditions(kind, text_tokens(3 + seed % 5, seed), melody)
    return Request(frames, SamplingParams(**sampling), seed, given)


def mixed_requests(kind: Kind) -> list[Request]:
    """Requests of all sorts: lengths, texts, settings, seeds, one row and two, with and without a prompt."""
    requests = [
        make_request(kind, 30, 1),
        make_request(kind, 45, 2, top_k=3),
        make_request(kind, 7, 3, top_p=0.9, guidance=1),
        make_request(kind, 60, 4, temperature=0),
        make_request(kind, 22, 5, top_k=0, temperature=0.8, guidance=6.5),
        make_request(kind, 1, 6),
        Request(25, SamplingParams(), 7),
    ]
    given = make_request(kind, 20, 8)
    return [*requests, Request(20, given.sampling, 8, given.conditions, prompt(kind, 12))]


def long_request(kind: Kind) -> Request:
    """A request that starts in the shortest bucket of lengths and grows into the next."""
    given = make_request(kind, 40, 9)
    return Request(40, given.sampling, 9, given.conditions, prompt(kind, 200 if "melody" in kind else 230))
