"""Compares the two engines with the same requests; run it with the Python of audiocraft's environment.

usage: python -m reference.adapter FOLDER [--kinds text melody stereo]

FOLDER is the one that `python -m reference.write` wrote. Prints rows of the table that `reference.compare` prints;
exits with 1 where the two engines make different music.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from musicgen_core import GenerationCancelled, GenerationInput, MusicGen, SamplingParams, Waveform
from musicgen_core.audiocraft.convert import convert
from reference.audiocraft_models import offline
from reference.cases import BATCH, KINDS, Kind
from reference.checkpoints import write_audiocraft_folder
from reference.sounds import RATE, stereo, tune
from reference.table import Pair, Row, print_row
from reference.text_encoder import write_t5

GREEDY = SamplingParams(temperature=0)


def main() -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    held = []
    with tempfile.TemporaryDirectory() as scratch:
        t5 = write_t5(args.folder / "base", Path(scratch) / "t5")
        for kind in args.kinds:
            checkpoint = write_audiocraft_folder(args.folder, kind, Path(scratch) / kind, text_encoder=str(t5))
            converted = Path(scratch) / f"{kind}-converted"
            convert(checkpoint, args.folder / "base", converted)
            with (
                offline(t5),
                MusicGen.load(converted, device="cpu", dtype="float32") as native,
                MusicGen.load(checkpoint, backend="audiocraft", device="cpu") as audiocraft,
            ):
                for name, given in _requests(kind).items():
                    pair = _pair(name, given, native, audiocraft)
                    held.append(print_row(Row(f"both engines: {kind}: {name}, sound", [pair])))
                _require_cancelling(audiocraft)
    return 0 if all(held) else 1


def _requests(kind: Kind) -> dict[str, GenerationInput]:
    clip = Waveform(stereo(1.3) if kind == "stereo" else tune(1.3), RATE)
    requests = {
        "text": GenerationInput(BATCH[0], 3, 0, GREEDY),
        "empty text": GenerationInput("", 1, 0, GREEDY),
        "continuation": GenerationInput(BATCH[1], 2, 0, GREEDY, clip, continuation=True),
    }
    if kind == "melody":
        requests["melody"] = GenerationInput(BATCH[0], 2, 0, GREEDY, clip)
    return requests


def _pair(name: str, given: GenerationInput, native: MusicGen, audiocraft: MusicGen) -> Pair:
    ours, reference = (engine.submit(given).audio().samples for engine in (native, audiocraft))
    if reference.std() < 0.01:
        raise AssertionError(f"{name}: audiocraft's sound is next to silent, so nothing is compared.")
    return Pair(name, torch.from_numpy(ours), torch.from_numpy(reference))


def _require_cancelling(audiocraft: MusicGen) -> None:
    """Raise AssertionError unless a cancelled job ends early and does not disturb the next one."""
    job = audiocraft.submit(GenerationInput(BATCH[0], 30, 0))
    while job.completed_steps < 5:
        time.sleep(0.01)
    job.cancel()
    with suppress(GenerationCancelled):
        job.audio()
    if job.completed_steps == job.total_steps:
        raise AssertionError("A cancelled job ran to its end.")
    if audiocraft.generate("", duration=0.2, seed=1).duration != 0.2:
        raise AssertionError("The job after a cancelled one has another length.")


if __name__ == "__main__":
    sys.exit(main())
