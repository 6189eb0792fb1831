"""Continue a clip, and make something new that follows its melody.

    python examples/continuation_and_melody.py clip.wav "happy fast piano" --duration 8

writes continued.wav (the clip's first seconds and new music after them) and melody.wav (new music throughout). Needs
the package with its engine: after `make setup`, run it with .venv/bin/python.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from musicgen_core import MusicGen, write_audio


def main() -> None:
    """Load the model and make both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="an audio file: wav, mp3, flac, ogg, m4a and more")
    parser.add_argument("prompt")
    parser.add_argument("--seconds", type=float, default=3.0, help="how much of the clip is continued")
    parser.add_argument("--duration", type=float, default=8.0, help="seconds of new music")
    parser.add_argument("--model", default="musicgen-pocket", help="a melody model's folder or id")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the results are written")
    args = parser.parse_args()

    with MusicGen.load(args.model) as model:
        continued = model.generate(
            args.prompt,
            duration=args.duration,
            input_audio=args.clip,
            continuation=True,
            continuation_end=args.seconds,
            seed=1,
        )
        write_audio(args.folder / "continued.wav", continued)
        print(f"continued.wav: {args.seconds:g} s of the clip, {continued.duration - args.seconds:g} s of new music")
        if not model.abilities.melody:
            print(f"{model.name} follows no melodies; musicgen-pocket and facebook/musicgen-melody do")
            return
        write_audio(
            args.folder / "melody.wav",
            model.generate(args.prompt, duration=args.duration, input_audio=args.clip, seed=1),
        )
        print(f"melody.wav: {args.duration:g} s that follow the clip's melody")


if __name__ == "__main__":
    main()
