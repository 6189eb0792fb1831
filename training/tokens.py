"""Encodes songs with the trained codec, as the language model's training data.

Tokens, chroma and style are stored; captions are drawn whenever a clip is used. Most clips hold the tokens of each part
by the codec's dictionary, which are those that the encoder should find in the mix. The others hold those that it finds,
in a mix that begins anywhere, as audio to continue does.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers.models.encodec.modeling_encodec import EncodecModel

from musicgen_core.conditioning.melody import MelodyConditioner
from training.codec import load_dictionary
from training.command import parse_arguments
from training.instruments import SAMPLE_RATE, Samples
from training.music import BARS, PARTS, STEPS_PER_BAR, Event, Style, compose, random_style, render

LOOPS = 2
"""Loops of a clip: what follows repeats the last one."""
CHROMA_FRAMES = 52
"""6.7 s, enough for a loop at the slowest tempo; MusicGen's 235 frames would take most of a clip's computation."""
CHROMA_BINS = 12
TOKEN_STREAM = 2
SHARD = 128
"""Clips per file."""
FROM_THE_START, FROM_A_BAR = 0.6, 0.85
"""Shares of the clips that begin with the song, and with a bar at least; the others are mixes that begin anywhere."""
MELODIC = ("lead", "arpeggio", "chords", "bass")
"""The voices that a melody is read from, unless it is the lead alone."""

Codes = NDArray[np.int16]


class Clip(NamedTuple):
    """A song's style, and the tokens and chroma of its sound."""

    style: Style
    codes: Codes
    """`[codebooks, LOOPS * loop_frames]`."""
    chroma: NDArray[np.uint8]
    """The loudest pitch class of each frame, `[CHROMA_FRAMES]`, of the lead alone or of all voices but the drums."""
    from_a_bar: bool
    """Whether it begins with a bar."""


def looped(codes: Codes, loop_frames: int, start: int, frames: int) -> Codes:
    """`frames` of the codes `[codebooks, LOOPS * loop_frames]` from frame `start` on, extended by their last loop."""
    known = codes.shape[1]
    at = start + np.arange(frames)
    return codes[:, np.where(at < known, at, known - loop_frames + (at - known) % loop_frames)]


class Encoder:
    """Encodes songs with the trained codec and the melody conditioner."""

    def __init__(self, folder: Path, seed: int, device: torch.device) -> None:
        codec: Any = EncodecModel.from_pretrained(folder / "codec")
        self._codec = codec.to(device).eval()
        self._dictionary = load_dictionary(folder)
        self._melody = MelodyConditioner(sample_rate=SAMPLE_RATE, bins=CHROMA_BINS, frames=CHROMA_FRAMES)
        self._seed = seed
        self._device = device
        self._part = lru_cache(maxsize=None)(self._encode_part)

    def clip(self, index: int) -> Clip:
        """Encode clip `index`."""
        random = np.random.default_rng([TOKEN_STREAM, self._seed, index])
        style = random_style(random)
        events = compose(style, random)
        kind, bar = random.random(), STEPS_PER_BAR * style.frames_per_step
        frames = LOOPS * style.loop_frames
        if kind < FROM_A_BAR:
            start = 0 if kind < FROM_THE_START else int(random.integers(BARS)) * bar
            whole: Codes = np.stack([self._part(*_part_key(style, events, part)) for part in range(len(PARTS))])
            codes = looped(whole, style.loop_frames, start, frames)
        else:
            start = int(random.integers(BARS * bar))
            codes = self._encode(render(style, events, frames, start=start))
        voices = ("lead",) if style.lead and random.random() < 0.5 else MELODIC
        chroma = self._melody.chroma(torch.from_numpy(render(style, events, frames, start=start, voices=voices)))
        loudest = np.resize(chroma.argmax(1).numpy().astype(np.uint8), CHROMA_FRAMES)
        return Clip(style, codes, loudest, kind < FROM_A_BAR)

    def _encode_part(self, style: Style, events: tuple[Event, ...], part: int) -> Codes:
        """The codes `[LOOPS * loop_frames]` of one part alone, in that part's codebook."""
        samples = torch.from_numpy(render(style, list(events), LOOPS * style.loop_frames))
        codes: Codes = self._dictionary.nearest(part, samples).numpy().astype(np.int16)
        return codes

    @torch.no_grad()
    def _encode(self, samples: Samples) -> Codes:
        # One clip at a time takes half the time of batches on a CPU, whose caches do not hold a batch's activations.
        given = torch.from_numpy(samples).to(self._device)[None, None]
        codes: Codes = self._codec.encode(given).audio_codes[0, 0].cpu().numpy().astype(np.int16)
        return codes


def _part_key(style: Style, events: list[Event], part: int) -> tuple[Style, tuple[Event, ...], int]:
    """What a part's sound depends on: equal for songs that differ elsewhere."""
    alike = Style("major", "C", style.pace, False, style.brightness, "medium", None, None, None, False)
    return alike, tuple(event for event in events if event.voice in PARTS[part]), part


def save(path: Path, clips: list[Clip]) -> None:
    """Write clips into a file, which appears complete or not at all."""
    arrays: dict[str, Any] = {f"codes_{i}": clip.codes for i, clip in enumerate(clips)}
    arrays["styles"] = np.array([json.dumps(asdict(clip.style)) for clip in clips])
    arrays["from_a_bar"] = np.array([clip.from_a_bar for clip in clips])
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
            columns = zip(shard["styles"], shard["chroma"], shard["from_a_bar"], strict=True)
            for i, (style, chroma, from_a_bar) in enumerate(columns):
                clips.append(Clip(Style(**json.loads(str(style))), shard[f"codes_{i}"], chroma, bool(from_a_bar)))
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
    arguments = parse_arguments("tokens", __doc__, songs=8192)
    encode(arguments.folder, arguments.songs, arguments.seed, torch.device(arguments.device))


if __name__ == "__main__":
    main()
