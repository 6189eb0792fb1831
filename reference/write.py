"""Writes audiocraft's results for the cases; run it with the Python of audiocraft's environment.

usage: python -m reference.write FOLDER [--shape tiny|small] [--parts text melody stereo sounds diffusion long]

Writes into FOLDER the weights (see `checkpoints`) and, in *.expected.safetensors, inputs and outputs; MultiBand
Diffusion's are in diffusion.th and diffusion.safetensors.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from audiocraft.data.audio_utils import normalize_audio
from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout
from safetensors.torch import save_file
from torch import Tensor

from reference import audiocraft_diffusion, audiocraft_long, audiocraft_models, checkpoints
from reference.cases import (
    BATCH,
    CODEC_SECONDS,
    FRAME_RATE,
    KINDS,
    LEVEL_STEP,
    PARTS,
    SHAPES,
    TEXTS,
    Greedy,
    Kind,
    Part,
    Shape,
    codec_config,
    greedy_cases,
    language_model_config,
)
from reference.sounds import RATE, Sound, levels, melodies, stereo, tune
from reference.text_encoder import write_base, write_t5

SEED = 3
STRATEGIES = ("loudness", "peak", "clip", "rms")


def main() -> None:
    """Write a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all that are compared at this shape")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    args.folder.mkdir(parents=True, exist_ok=True)
    shape = SHAPES[args.shape]
    write(args.folder, shape, args.parts or shape.parts, args.seed)


def write(folder: Path, shape: Shape, parts: Sequence[Part], seed: int) -> None:
    """Write the files of these parts."""
    base = write_base(folder / "base")
    with tempfile.TemporaryDirectory() as scratch:
        t5 = write_t5(base, Path(scratch) / "t5")
        with audiocraft_models.offline(t5):
            checkpoints.save(folder, checkpoints.CODEC, audiocraft_models.codec_state(shape, seed), codec_config(shape))
            for kind in (kind for kind in KINDS if kind in parts):
                _write_model(folder, kind, shape, t5, seed)
            if "sounds" in parts:
                save_file(expected_chroma(), folder / "chroma.expected.safetensors")
                save_file(expected_levels(), folder / "levels.expected.safetensors")
            if "long" in parts:
                audiocraft_long.write(folder, t5)
    if "diffusion" in parts:
        audiocraft_diffusion.write(folder)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes them readable by their owner only


def _write_model(folder: Path, kind: Kind, shape: Shape, t5: Path, seed: int) -> None:
    """Write a kind's weights and audiocraft's results with them."""
    state = audiocraft_models.language_model_state(kind, shape, t5, seed)
    checkpoints.save(folder, kind, state, language_model_config(kind, shape))
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = checkpoints.write_audiocraft_folder(folder, kind, Path(scratch), text_encoder=str(t5))
        model = audiocraft_models.load(checkpoint)
    expected = Reference(model, kind, shape).expected()
    save_file(expected, folder / f"{kind}.expected.safetensors")
    print(f"{kind}: {len(expected)} tensors", flush=True)


class Reference:
    """audiocraft's model of one kind, and its results for the cases."""

    def __init__(self, model: Any, kind: Kind, shape: Shape) -> None:
        self._model = model
        self._kind = kind
        self._shape = shape
        self._random = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def expected(self) -> dict[str, Tensor]:
        """All tensors of the kind's file of results."""
        tensors = self._text_states() | self._logits() | self._codec()
        if self._kind == "melody":
            conditioner = self._model.lm.condition_provider.conditioners["self_wav"]
            [condition] = self._attributes(("",), melody=True)
            tensors["melody"] = audiocraft_models.fitted_chroma(conditioner, condition.wav["self_wav"])[0].to(
                torch.uint8
            )
        tensors["prompt"] = self._codes(int(max(self._shape.prompts) * FRAME_RATE))
        for case in greedy_cases(self._kind, self._shape):
            tensors[f"greedy {case.name}"] = self._greedy(case, tensors["prompt"])
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def _text_states(self) -> dict[str, Tensor]:
        """T5's states `[tokens, width]` of every text, before the projection to the model's width."""
        conditioner = self._model.lm.condition_provider.conditioners["description"]
        tokens = {text: conditioner.tokenize([text]) for text in {*TEXTS, *BATCH} if text}
        return {f"states {text}": conditioner.t5(**given).last_hidden_state[0] for text, given in tokens.items()}

    def _logits(self) -> dict[str, Tensor]:
        """Teacher-forced logits `[codebooks, frames, vocabulary]`: of each text alone, and of one padded to another."""
        codes = self._codes(self._shape.logit_frames)
        tensors = {"codes": codes}
        for text in TEXTS:
            tensors[f"logits {text}"] = self._teacher_forced(codes, (text,))
        tensors["logits null"] = self._teacher_forced(codes, (TEXTS[0],), null=True)
        tensors[f"logits {TEXTS[0]}, padded"] = self._teacher_forced(codes, (TEXTS[0], TEXTS[2]))
        return tensors

    def _teacher_forced(self, codes: Tensor, texts: tuple[str, ...], *, null: bool = False) -> Tensor:
        """Logits of the first text; 0 where a code's column lies beyond the last frame."""
        lm, attributes = self._model.lm, self._attributes(texts, melody=self._kind == "melody")
        if null:  # beside the conditional row, as guidance computes it
            attributes = ClassifierFreeGuidanceDropout(p=1.0)(attributes) + attributes
        conditions = lm.condition_provider(lm.condition_provider.tokenize(attributes))
        batch = codes.long()[None].expand(len(attributes), -1, -1)
        output = lm.compute_predictions(batch, [], conditions)
        logits: Tensor = output.logits[0].masked_fill(~output.mask[0, :, :, None], 0)
        return logits

    def _greedy(self, case: Greedy, prompt: Tensor) -> Tensor:
        """The codes `[texts, codebooks, new frames]` that `generate` finds after the prompt's first seconds."""
        attributes = self._attributes(case.texts, melody=self._kind == "melody" and case.melody)
        given = prompt[:, : round(case.seconds * FRAME_RATE)].long()
        codes: Tensor = self._model.lm.generate(
            given[None].expand(len(case.texts), -1, -1),
            attributes,
            max_gen_len=given.shape[1] + self._shape.steps,
            use_sampling=False,
            cfg_coef=case.guidance,
            check=True,
        )
        return codes[..., given.shape[1] :].to(torch.int16)

    def _attributes(self, texts: tuple[str, ...], *, melody: bool) -> Any:
        wavs = [torch.from_numpy(tune(5.3))] * len(texts) if melody else None
        return audiocraft_models.attributes(self._model, list(texts), wavs)

    def _codes(self, frames: int) -> Tensor:
        shape = (self._model.lm.num_codebooks, frames)
        return torch.randint(self._shape.vocabulary, shape, generator=self._random).to(torch.int16)

    def _codec(self) -> dict[str, Tensor]:
        """Codes `[codebooks, frames]` of a sound, and the sound `[channels, samples]` of codes."""
        if self._kind == "melody":
            return {}  # the same codec as the text model's
        sound: Sound = stereo(CODEC_SECONDS) if self._kind == "stereo" else tune(CODEC_SECONDS)
        codec = self._model.compression_model
        encoded, _ = codec.encode(torch.from_numpy(sound)[None])
        spoken = self._codes(30)
        return {
            "encoded": encoded[0].to(torch.int16),
            "spoken": spoken,
            "decoded": codec.decode(spoken.long()[None])[0],
        }


@torch.no_grad()
def expected_chroma() -> dict[str, Tensor]:
    """The loudest pitch class of every frame of each melody, as it is and fitted to 30 s."""
    conditioner, tensors = audiocraft_models.melody_conditioner(), {}
    for name, sound in melodies().items():
        wav = torch.from_numpy(sound)[None]
        mono = wav.mean(dim=1, keepdim=True)
        features = {
            name: conditioner.chroma(mono)[0],
            f"{name}, fitted": audiocraft_models.fitted_chroma(conditioner, _condition(wav))[0],
        }
        for key, one_hot in features.items():
            assert torch.equal(one_hot, torch.nn.functional.one_hot(one_hot.argmax(-1), 12).float())
            tensors[key] = one_hot.argmax(-1).to(torch.uint8)
    return tensors


def _condition(wav: Tensor) -> Any:
    from audiocraft.modules.conditioners import WavCondition

    return WavCondition(wav, torch.tensor([wav.shape[-1]]), [RATE], [None])


def expected_levels() -> dict[str, Tensor]:
    """Every LEVEL_STEP-th sample of each sound under each strategy, as audiocraft's `audio_write` calls it."""
    return {
        f"{name}, {strategy}": normalize_audio(
            torch.from_numpy(sound).clone(), strategy=strategy, sample_rate=RATE, loudness_compressor=False
        )[:, ::LEVEL_STEP].contiguous()
        for name, sound in levels().items()
        for strategy in STRATEGIES
    }


if __name__ == "__main__":
    main()
