"""The results of our engine for the cases, each paired with audiocraft's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from musicgen_core.audio.loudness import normalize
from musicgen_core.audio.waveform import Waveform
from musicgen_core.audiocraft.convert import convert
from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.codec.encodec import Codec, load_codec
from musicgen_core.conditioning.melody import MelodyConditioner
from musicgen_core.conditioning.text import TextConditioner, load_text_conditioner
from musicgen_core.engine.attention import Lane, SequenceAttention
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.kv_cache import KVCache
from musicgen_core.engine.request import Conditions, Request, condition_vectors
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.lm.delay_pattern import apply_delays
from musicgen_core.lm.transformer import LanguageModel, position_table
from musicgen_core.options import NormalizationStrategy
from reference.cases import CODEC_SECONDS, FRAME_RATE, LEVEL_STEP, TEXTS, Greedy, Kind
from reference.checkpoints import write_audiocraft_folder
from reference.sounds import RATE, Sound, levels, melodies, stereo, tune
from reference.table import Pair

CPU = torch.device("cpu")
TEXT_TOKENS = 64


class NativeModel:
    """One kind's weights in our engine, converted from audiocraft's layout, and audiocraft's results with them."""

    def __init__(self, source: Path, kind: Kind) -> None:
        self.kind = kind
        self.expected = load_file(source / f"{kind}.expected.safetensors")
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = write_audiocraft_folder(source, kind, Path(scratch) / "audiocraft")
            folder = Path(scratch) / "model"
            convert(checkpoint, source / "base", folder)
            raw = json.loads((folder / "config.json").read_text())
            self.model: LanguageModel = load_language_model(folder, device=CPU, dtype=torch.float32)
            self.codec: Codec = load_codec(folder, raw, channels=self.model.config.audio_channels, device=CPU)
            self.text: TextConditioner = load_text_conditioner(folder, raw, device=CPU)

    def text_states(self) -> Iterator[Pair]:
        """T5's states of every text."""
        for name, expected in self._named("states "):
            native = self.text.encode(name)
            assert native is not None
            yield Pair(name, native, expected)

    def logits(self) -> Iterator[Pair]:
        """Teacher-forced logits `[codebooks, frames, vocabulary]`."""
        for text in TEXTS:
            yield Pair(f"text {text!r}", self._logits_of_codes(self._vectors(text)), self.expected[f"logits {text}"])
        null = self._vectors(TEXTS[0], conditional=False)
        yield Pair("unconditional row", self._logits_of_codes(null), self.expected["logits null"])

    def padded_logits(self) -> tuple[Pair, Pair]:
        """Logits of a short text, alone and padded with zero vectors as audiocraft pads it in a batch.

        Each is paired with audiocraft's logits of the padded text.
        """
        expected = self.expected[f"logits {TEXTS[0]}, padded"]
        alone = self._vectors(TEXTS[0])
        missing = len(self.expected[f"states {TEXTS[2]}"]) - len(self.expected[f"states {TEXTS[0]}"])
        padded = torch.cat([alone, torch.zeros(missing, alone.shape[1])])
        return (
            Pair("alone", self._logits_of_codes(alone), expected),
            Pair("padded", self._logits_of_codes(padded), expected),
        )

    def greedy(self, cases: list[Greedy], steps: int) -> Iterator[Pair]:
        """Greedy tokens `[texts, codebooks, steps]`; all requests of all cases run together in one engine."""
        requests = [self._request(case, text, steps) for case in cases for text in case.texts]
        longest = max(request.total_frames for request in requests)
        with Engine(self.model, max_requests=4, max_frames=longest, max_text_tokens=TEXT_TOKENS) as engine:
            generations = iter([engine.submit(request) for request in requests])
            for case in cases:
                codes = torch.stack([next(generations).codes()[:, -steps:] for _ in case.texts])
                yield Pair(case.name, codes, self.expected[f"greedy {case.name}"].long())

    def lag(self, case: Greedy, pair: Pair) -> float:
        """The most that a token of either side lies below the likeliest one, in our logits after that side's tokens.

        0 where both have the same tokens. Where two tokens are almost equally likely, rounding decides between them,
        and from there on the two pieces differ; every token must still be the likeliest after those before it.
        """
        if torch.equal(pair.native, pair.audiocraft):
            return 0.0
        sides = (codes for side in (pair.native, pair.audiocraft) for codes in zip(case.texts, side, strict=True))
        return max(self._lag(case, text, codes) for text, codes in sides)

    def encoded(self) -> Pair:
        """Codes of a sound."""
        sound: Sound = stereo(CODEC_SECONDS) if self.kind == "stereo" else tune(CODEC_SECONDS)
        return Pair("encode", self.codec.encode(torch.from_numpy(sound)), self.expected["encoded"].long())

    def decoded(self) -> Pair:
        """The sound of codes."""
        return Pair("decode", self.codec.decode(self.expected["spoken"].long()), self.expected["decoded"])

    def _named(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        return ((key.removeprefix(prefix), value) for key, value in self.expected.items() if key.startswith(prefix))

    def _conditions(self, text: str, *, melody: bool = True) -> Conditions:
        chroma = self.expected["melody"].float() if melody and self.kind == "melody" else None
        return Conditions(self.expected[f"states {text}"] if text else None, chroma)

    @torch.inference_mode()
    def _vectors(self, text: str, *, conditional: bool = True, melody: bool = True) -> Tensor:
        return condition_vectors(self.model, self._conditions(text, melody=melody), conditional=conditional)

    def _logits_of_codes(self, vectors: Tensor) -> Tensor:
        """Logits of the stored codes; 0 where a code's column lies beyond the last frame, as in audiocraft."""
        codes = self.expected["codes"].long()
        return self._teacher_forced(codes, vectors, columns=codes.shape[1])

    @torch.inference_mode()
    def _teacher_forced(self, codes: Tensor, vectors: Tensor, columns: int | None = None) -> Tensor:
        """Logits `[codebooks, frames, vocabulary]` of codes, from their first `columns` delayed columns; None: all."""
        config, frames = self.model.config, codes.shape[1]
        delayed = apply_delays(codes, config.delays, config.padding).T[:columns]
        logits = _full_logits(self.model, delayed, vectors)
        aligned = torch.zeros(config.codebooks, frames, config.vocabulary)
        for codebook, delay in enumerate(config.delays):
            found = logits[delay : delay + frames, codebook]
            aligned[codebook, : len(found)] = found
        return aligned

    def _lag(self, case: Greedy, text: str, generated: Tensor) -> float:
        """`lag` of one text's tokens `[codebooks, steps]`."""
        prompt = self._prompt(case)
        codes = generated if prompt is None else torch.cat([prompt, generated], dim=1)
        conditional, null = (
            self._teacher_forced(codes, self._vectors(text, conditional=given, melody=case.melody))
            for given in (True, False)
        )
        guided = (null + case.guidance * (conditional - null))[:, -generated.shape[1] :]
        chosen = guided.gather(-1, generated[..., None])[..., 0]
        return float((guided.amax(dim=-1) - chosen).max())

    def _prompt(self, case: Greedy) -> Tensor | None:
        frames = round(case.seconds * FRAME_RATE)
        return self.expected["prompt"][:, :frames].long() if frames else None

    def _request(self, case: Greedy, text: str, steps: int) -> Request:
        return Request(
            frames=steps,
            sampling=SamplingParams(temperature=0, guidance=case.guidance),
            seed=0,
            conditions=self._conditions(text, melody=case.melody),
            prompt_codes=self._prompt(case),
        )


def _full_logits(model: LanguageModel, columns: Tensor, vectors: Tensor) -> Tensor:
    """Logits `[columns, codebooks, vocabulary]` of columns `[columns, codebooks]` and their condition, in one pass."""
    config = model.config
    prefix = vectors.shape[0] if config.is_melody else 0
    length = prefix + columns.shape[0]
    cache = KVCache(
        config,
        slots=1,
        positions=length + (-length % 64),
        condition_tokens=vectors.shape[0],
        device=CPU,
        dtype=torch.float32,
        zeroed=True,
    )
    x = model.embed(columns)
    if config.is_melody:
        x = torch.cat([vectors, x])
    else:
        cache.set_condition(0, model.condition_keys_values(vectors))
    x = x + position_table(length, config.dim, device=CPU, dtype=torch.float32)
    lane = Lane(rows=1, position=0, condition_tokens=vectors.shape[0])
    return model.logits(model(x[None], SequenceAttention(cache, 0, lane, length))[0, prefix:])


def chroma(source: Path) -> Iterator[Pair]:
    """One-hot chroma `[frames, bins]` of every melody, as it is and fitted to 30 s."""
    expected = load_file(source / "chroma.expected.safetensors")
    conditioner = MelodyConditioner(sample_rate=RATE, bins=12, frames=235)
    for name, sound in melodies().items():
        computed = {
            name: conditioner.chroma(torch.from_numpy(sound).mean(dim=0)),
            f"{name}, fitted": conditioner.encode(Waveform(sound, RATE)),
        }
        for key, native in computed.items():
            yield Pair(key, native, torch.nn.functional.one_hot(expected[key].long(), 12).float())


def normalized(source: Path) -> Iterator[tuple[str, NormalizationStrategy, Pair]]:
    """Every LEVEL_STEP-th sample of each sound under each strategy."""
    expected = load_file(source / "levels.expected.safetensors")
    for name, sound in levels().items():
        for strategy in NormalizationStrategy:
            native = normalize(Waveform(sound.astype(np.float32), RATE), strategy).samples[:, ::LEVEL_STEP]
            pair = Pair(f"{name}, {strategy}", torch.from_numpy(native.copy()), expected[f"{name}, {strategy}"])
            yield name, strategy, pair
