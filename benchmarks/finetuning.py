"""Fine-tuning musicgen-pocket on a style that it has never heard: `python -m benchmarks.finetuning`.

The style is a kalimba, which is none of its instruments, in a tresillo (3 + 3 + 2 sixteenths), which is none of its
rhythms: in all that it has heard, chords, bass and kick fall on even sixteenths. Two things are measured of generated
music: how much of the tresillo is in its onsets, and how far its mean spectrum is from that of the style's own clips as
the codec plays them.
"""

from __future__ import annotations

import argparse
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel

from finetuning.fine_tune import FineTuned, fine_tune
from finetuning.language_model import load_model
from finetuning.lora import LoraSettings
from musicgen_core import GenerationInput, MusicGen, Waveform, write_audio
from musicgen_core.checkpoints import hub
from training.instruments import HOP as CODEC_HOP
from training.instruments import INSTRUMENTS, SAMPLE_RATE, Instrument, Samples
from training.music import KEYS, SCALES, STEPS_PER_BAR, Event, Pace, Style, render

KALIMBA = Instrument(
    ("kalimba",), lambda h: 1.0 * (h == 1) + 0.5 * (h == 5) + 0.35 * (h == 9), 0.002, 2.5, 0.2, gain=1.3
)
TRESILLO = (0, 3, 6)
"""Sixteenths of each half bar."""
CLIPS = 20
PROMPTS = ("kalimba tresillo in {} {}", "a tresillo on the kalimba, {} {}", "kalimba, tresillo groove, {} {}")
GENERATED_SECONDS = 8.0
HOP = 160
"""Samples per frame of the onset envelope: 5 ms."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetuning", description=__doc__)
    parser.add_argument("--model", default=hub.POCKET)
    parser.add_argument("--steps", type=int, default=LoraSettings.steps)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--rank", type=int, default=LoraSettings.rank)
    parser.add_argument("--takes", type=int, default=12, help="generated before and after")
    parser.add_argument("--keep", type=Path, help="a folder for clips, adapter and music")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = arguments.keep or Path(temporary)
        settings = LoraSettings(
            steps=arguments.steps, learning_rate=arguments.learning_rate, rank=arguments.rank, evaluate_every=20
        )
        for line in measure(folder, arguments.model, settings, takes=arguments.takes):
            print(line, flush=True)


def measure(folder: Path, model: str, settings: LoraSettings, *, clips: int = CLIPS, takes: int = 12) -> Iterator[str]:
    """Make the clips, train, generate before and after; yields a table. `takes`: how many are generated each time."""
    began = time.monotonic()
    tuned = train(folder, model, settings, clips=clips)
    seconds = time.monotonic() - began
    before, after = tuned.measurements[0].held_out, tuned.best.held_out
    yield f"{clips} clips, {tuned.measurements[-1].step} steps, the best after {tuned.best.step}: {seconds:.0f} s"
    yield f"held-out loss: {before:.3f} before, {after:.3f} after ({100 * (after / before - 1):+.0f}%)"
    base = hub.resolve(model)
    with MusicGen.load(base) as loaded:
        played = [loaded.codec.decode(loaded.codec.encode(torch.from_numpy(clip)[None]))[0] for _, clip in songs(clips)]
        style = [each.cpu().numpy() for each in played]
        plain = generate(loaded, takes)
    with MusicGen.load(merge(base, tuned, folder / "merged")) as loaded:
        adapted = generate(loaded, takes)
    yield "| | tresillo | spectrum's distance |"
    yield "|---|--:|--:|"
    for title, music in (("the clips, as the codec plays them", style), ("before", plain), ("after", adapted)):
        tresillo = np.mean([tresillo_share(samples) for samples in music])
        yield f"| {title} | {tresillo:.2f} | {np.abs(spectrum(music) - spectrum(style)).mean():.1f} dB |"


def train(folder: Path, model: str, settings: LoraSettings, *, clips: int) -> FineTuned:
    """An adapter trained on the style's songs."""
    archive = write_archive(folder, clips)
    return fine_tune(
        archive, model, folder / "adapter", settings=settings, checkpoint=folder / "checkpoint", sample_seconds=0
    )


def merge(base: Path, tuned: FineTuned, target: Path) -> Path:
    """A model folder whose weights have the adapter in them."""
    model = load_model(base, device=torch.device("cpu"), dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(tuned.folder)).merge_and_unload()  # type: ignore[operator]
    shutil.copytree(base, target, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "diffusion"))
    merged.save_pretrained(target)
    return target


def generate(model: MusicGen, takes: int) -> list[Samples]:
    """Music for the style's prompts, in all keys."""
    names = [(key, mode) for key in KEYS for mode in SCALES]
    inputs = [
        GenerationInput(PROMPTS[take % len(PROMPTS)].format(*names[take % len(names)]), GENERATED_SECONDS, seed=take)
        for take in range(takes)
    ]
    return [job.audio().samples[0] for job in [model.submit(given) for given in inputs]]


def songs(count: int) -> Iterator[tuple[str, Samples]]:
    """Songs in the style, each with its caption."""
    with _instrument():
        for index in range(count):
            random = np.random.default_rng([34, index])
            mode, key = list(SCALES)[index % 2], list(KEYS)[index // 2 % len(KEYS)]
            style = _style(mode, key)
            caption = PROMPTS[index % len(PROMPTS)].format(key, mode)
            yield caption, render(style, compose(style, random), 3 * style.loop_frames // 2)


def compose(style: Style, random: np.random.Generator) -> list[Event]:
    """A loop of two bars: kalimba and bass in a tresillo, and the kick with them."""
    tonic = 60 + (KEYS[style.key] - 60) % 12
    events = []
    for half in range(2 * 2):
        root = int(random.choice((0, 3, 4)))
        for step in TRESILLO:
            at, length = half * STEPS_PER_BAR // 2 + step, 2 if step == TRESILLO[-1] else 3
            degrees = (0, 2, 4) if step == 0 else (int(random.choice((0, 2, 4))),)
            for degree in degrees:
                pitch = tonic + (SCALES[style.mode][(root + degree) % 7]) % 12
                events.append(Event("lead", "kalimba", pitch, at, length, 0.22))
            events.append(Event("drums", "kick", 0, at, 1, 0.5))
    return events


def _style(mode: str, key: str) -> Style:
    pace: Pace = "moderate"
    return Style(mode, key, pace, True, "bright", "medium", "kalimba", None, None, False)  # type: ignore[arg-type]


@contextmanager
def _instrument() -> Iterator[None]:
    """Have the training's synthesizer know the kalimba."""
    with patch.dict(INSTRUMENTS, kalimba=KALIMBA):
        yield


def write_archive(folder: Path, clips: int) -> Path:
    """The style's songs as a tar.gz with a caption beside each."""
    source = folder / "clips"
    source.mkdir(parents=True, exist_ok=True)
    for index, (caption, samples) in enumerate(songs(clips)):
        write_audio(source / f"{index:02}.wav", Waveform(samples[None], SAMPLE_RATE))
        (source / f"{index:02}.txt").write_text(caption)
    with tarfile.open(folder / "clips.tar.gz", "w:gz") as tar:
        tar.add(source, "clips")
    return folder / "clips.tar.gz"


def tresillo_share(samples: Samples) -> float:
    """How often an onset follows another after three sixteenths, as a share of those after three and after four.

    A tresillo's onsets follow each other after 3, 3 and 2 sixteenths, those of even rhythms after 2, 4 or 8. Where the
    bar begins does not matter.
    """
    mel = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=1024, hop_length=HOP, n_mels=40, power=1.0)
    levels = np.log1p(100 * mel)
    flux = np.maximum(levels[:, 3:] - levels[:, :-3], 0).sum(0)
    flux -= flux.mean()
    sixteenth = _style("major", "C").frames_per_step * CODEC_HOP // HOP
    reach = sixteenth // 4

    def repeats(steps: int) -> float:
        lags = range(steps * sixteenth - reach, steps * sixteenth + reach + 1)
        return max(0.0, *(float(flux[lag:] @ flux[:-lag]) for lag in lags))

    after_three, after_four = repeats(3), repeats(4)
    return after_three / (after_three + after_four + 1e-9)


def spectrum(clips: Sequence[Samples]) -> NDArray[np.float64]:
    """The mean level of each mel band over clips, in dB relative to the loudest; no lower than -60."""
    power = np.mean(
        [librosa.feature.melspectrogram(y=clip, sr=SAMPLE_RATE, n_mels=64).mean(axis=1) for clip in clips], axis=0
    )
    levels: NDArray[np.float64] = 10 * np.log10(np.maximum(power / power.max(), 1e-6))
    return levels


if __name__ == "__main__":
    main()
