"""Several takes of one prompt, decoded together, without a server.

    python examples/library.py "warm lo-fi piano" --takes 3 --duration 8

writes take-0.wav, take-1.wav, ... into the current folder. Needs the package with its engine: after `make setup`, run
it with .venv/bin/python.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from musicgen_core import GenerationInput, MusicGen, SamplingParams, write_audio


def main() -> None:
    """Load the model, submit all takes, write each when it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt")
    parser.add_argument("--takes", type=int, default=2, help="how many pieces; each has a seed of its own")
    parser.add_argument("--duration", type=float, default=8.0, help="seconds of each take")
    parser.add_argument("--model", default="musicgen-pocket", help="a folder, or an id such as facebook/musicgen-small")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the takes are written")
    args = parser.parse_args()

    with MusicGen.load(args.model) as model:
        # Submitting returns at once: all takes share each decoding step, and each gets what it would get alone.
        sampling = SamplingParams(temperature=1.0, top_k=250, guidance=3.0)
        jobs = [model.submit(GenerationInput(args.prompt, args.duration, seed, sampling)) for seed in range(args.takes)]
        for take, job in enumerate(jobs):
            path = args.folder / f"take-{take}.wav"
            write_audio(path, job.finish())
            print(f"{path}: seed {job.seed}")


if __name__ == "__main__":
    main()
