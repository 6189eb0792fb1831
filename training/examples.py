"""Draws the card's examples: a spectrogram of what the model plays for each of a few prompts."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from musicgen_core import MusicGen
from musicgen_core.audio.ffmpeg import ffmpeg_path
from musicgen_core.audio.files import write_audio
from musicgen_core.checkpoints.hub import POCKET
from musicgen_core.generation_input import GenerationInput

PICTURES = Path(__file__).parents[1] / "docs" / "images"
SECONDS = 13
SEED = 1
EXAMPLES = {
    "dance": "happy fast dance music with drums, synth lead, bright and busy",
    "lullaby": "slow lullaby, solo music box",
    "lo-fi": "dark lo-fi piano at a moderate pace with drums and bass",
    "hymn": "sad slow church organ, no drums",
}
"""The name of each picture, and its prompt."""
DRAWING = "showspectrumpic=size=720x200:legend=0:scale=log:stop=4000:drange=60:win_func=hann"


def main() -> None:
    """Generate each example with the service's default settings, and draw it."""
    parser = argparse.ArgumentParser(prog="python -m training.examples", description=__doc__)
    parser.add_argument("--model", default=POCKET)
    parser.add_argument("--folder", type=Path, default=PICTURES)
    arguments = parser.parse_args()
    with MusicGen.load(arguments.model) as model, tempfile.TemporaryDirectory() as folder:
        for name, prompt in EXAMPLES.items():
            sound, picture = Path(folder) / f"{name}.wav", arguments.folder / f"pocket-{name}.png"
            write_audio(sound, model.submit(GenerationInput(prompt, SECONDS, seed=SEED)).audio())
            command = [ffmpeg_path(), "-v", "error", "-y", "-i", str(sound), "-lavfi", DRAWING, str(picture)]
            subprocess.run(command, check=True)
            print(f"{picture}: {prompt}")


if __name__ == "__main__":
    main()
