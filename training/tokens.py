"""Encodes songs with the trained codec, as the language model's training data.

Most clips are short; some have 30 s, for the positions up to the longest prediction. Tokens, chroma and style are
stored; captions are drawn whenever a clip is used.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers.models.encodec.modeling_encodec import EncodecModel

from musicgen_core.conditioning.melody import MelodyConditioner
from training.command import parse_arguments
from training.instruments import SAMPLE_RATE
from training.music import BARS, STEPS_PER_BAR, Style, compose, random_style, render

SHORT_FRAMES = 384
LONG_FRAMES = 1500
CHROMA_FRAMES = 59
"""7.5 s, enough for a loop at the slowest tempo; MusicGen's 235 frames would take most of a clip's computation."""
CHROMA_BINS = 12
TOKEN_STREAM = 2
SHARD = 128
"""Clips per file."""
LONG_EVERY = 12
"""One clip in this number is long."""
MELODIC = frozenset({"lead", "arpeggio", "chords", "bass"})
"""The parts that a melody is read from, unless it is the lead alone."""


class Clip(NamedTuple):
    """A song's style, and the tokens and chroma of its sound."""

    style: Style
    codes: NDArray[np.int16]
    """`[codebooks, frames]`."""
    chroma: NDArray[np.uint8]
    """The loudest pitch class of each frame, `[CHROMA_FRAMES]`, of the lead alone or of all parts but the drums."""


def looped(clip: Clip, frames: int) -> NDArray[np.int16]:
    """The clip's codes `[codebooks, frames]`, cut to `frames` or extended by its last loop.

    Encoding the longer song gives the same codes, except for 1 to 7 percent of them.
    """
    known = clip.codes.shape[1]
    at = np.arange(frames)
    beyond = known - clip.style.loop_frames + (at - known) % clip.style.loop_frames
    return clip.codes[:, np.where(at < known, at, beyond)]


def frames_of(index: int) -> int:
    """The length of clip `index`."""
    return LONG_FRAMES if index % LONG_EVERY == LONG_EVERY - 1 else SHORT_FRAMES


class Encoder:
    """Encodes songs with the trained codec and the melody conditioner."""

    def __init__(self, folder: Path, seed: int, device: torch.device) -> None:
        codec: Any = EncodecModel.from_pretrained(folder / "codec")
        self._codec = codec.to(device).eval()
        self._melody = MelodyConditioner(sample_rate=SAMPLE_RATE, bins=CHROMA_BINS, frames=CHROMA_FRAMES)
        self._seed = seed
        self._device = device

    @torch.no_grad()
    def clip(self, index: int) -> Clip:
        """Encode clip `index`; most begin with the song, some with a bar or anywhere, as audio to continue does."""
        random = np.random.default_rng([TOKEN_STREAM, self._seed, index])
        style = random_style(random)
        events = compose(style, random)
        kind = random.random()
        bar = STEPS_PER_BAR * style.frames_per_step
        start = (
            0 if kind < 0.63 else int(random.integers(BARS)) * bar if kind < 0.9 else int(random.integers(BARS * bar))
        )
        parts = MELODIC
        if style.lead and random.random() < 0.5:
            parts = frozenset({"lead"})
        frames = frames_of(index)
        mix = torch.from_numpy(render(style, events, frames, start=start)).to(self._device)
        tune = torch.from_numpy(render(style, events, frames, start=start, parts=parts))
        chroma = self._melody.chroma(tune).argmax(1).numpy().astype(np.uint8)
        # One clip at a time takes half the time of batches on a CPU, whose caches do not hold a batch's activations.
        codes = self._codec.encode(mix[None, None]).audio_codes[0, 0].cpu().numpy().astype(np.int16)
        return Clip(style, codes, np.resize(chroma, CHROMA_FRAMES))


def save(path: Path, clips: list[Clip]) -> None:
    """Write clips into a file, which appears complete or not at all."""
    arrays: dict[str, Any] = {f"codes_{i}": clip.codes for i, clip in enumerate(clips)}
    arrays["styles"] = np.array([json.dumps(asdict(clip.style)) for clip in clips])
    arrays["chroma"] = np.stack([clip.chroma for clip in clips])
    unfinished = path.with_suffix(".partial")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.replace(path)


def load(folder: Path) -> list[Clip]:
    """Read all clips of a folder, in order."""
    clips = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as shard:
            for i, style in enumerate(shard["styles"]):
                clips.append(Clip(Style(**json.loads(str(style))), shard[f"codes_{i}"], shard["chroma"][i]))
    return clips


def encode(folder: Path, songs: int, seed: int, device: torch.device) -> None:
    """Encode songs into `folder`/tokens, with one process per core; existing files are kept."""
    target = folder / "tokens"
    target.mkdir(exist_ok=True)
    missing = [first for first in range(0, songs, SHARD) if not (target / f"{first:06}.npz").is_file()]
    processes = 1 if device.type == "cuda" else min(len(missing), os.cpu_count() or 1)
    if not missing:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(folder, seed, device)) as pool:
        work = [pool.submit(_encode_shard, target, first, min(first + SHARD, songs)) for first in missing]
        for done in tqdm(as_completed(work), total=len(work), desc="tokens", unit="shard"):
            done.result()


_encoder: Encoder
"""The encoder of a worker process."""


def _start(folder: Path, seed: int, device: torch.device) -> None:
    global _encoder
    torch.set_num_threads(1)
    _encoder = Encoder(folder, seed, device)


def _encode_shard(target: Path, first: int, end: int) -> None:
    save(target / f"{first:06}.npz", [_encoder.clip(index) for index in range(first, end)])


def main() -> None:
    """Encode songs into a folder that holds the trained codec."""
    arguments = parse_arguments("tokens", __doc__, songs=6144)
    encode(arguments.folder, arguments.songs, arguments.seed, torch.device(arguments.device))


if __name__ == "__main__":
    main()
