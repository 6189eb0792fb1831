"""How many songs a GPU makes an hour, reckoned from what a decoding step reads of its memory. Nothing here is measured.

python -m benchmarks.gpus
"""

from __future__ import annotations

from benchmarks.engine import LARGE, MEDIUM, SMALL, weights_read
from musicgen_core.lm.transformer import LanguageModelConfig

GPUS = {"L4": 0.30e12, "A100 80 GB": 2.04e12, "H100 SXM": 3.35e12}
"""Bytes that each one's memory delivers a second, as its maker says."""
USED = 0.5
"""The share of it that a step uses. On two CPU cores the kernels use all of it (docs/performance.md); between the many
small operations of a GPU's step there are pauses."""
REQUESTS = 8
"""Songs that are decoded together."""
SONG_SECONDS = 30
NUMBER_BYTES = 2
"""bfloat16, of weights, keys and values."""


def measure() -> list[str]:
    shapes = {"small": SMALL, "medium": MEDIUM, "large": LARGE}
    rows = []
    for name, config in shapes.items():
        for gpu, delivered in GPUS.items():
            seconds = step_seconds(config, SONG_SECONDS, delivered)
            songs = songs_a_second(config, SONG_SECONDS, delivered) * 3600
            rows.append(f"| {name} | {gpu} | {seconds * 1000:.1f} ms | {songs:,.0f} |")
    return [
        f"| model | GPU | a step of {REQUESTS} songs | songs of {SONG_SECONDS} s an hour |",
        "|---|---|--:|--:|",
        *rows,
    ]


def step_seconds(config: LanguageModelConfig, song_seconds: float, delivered: float) -> float:
    """A step of several songs, each half done on average: it reads the weights once, and all their keys and values.

    Guidance doubles those: a song has a row with its conditions and one without.
    """
    frames = song_seconds * config.frame_rate / 2
    cached = REQUESTS * 2 * frames * config.layers * 2 * config.dim
    return NUMBER_BYTES * (weights_read(config) + cached) / (USED * delivered)


def songs_a_second(config: LanguageModelConfig, song_seconds: float, delivered: float) -> float:
    """How many songs end a second where as many as are decoded together always are."""
    steps = song_seconds * config.frame_rate + config.codebooks - 1
    return REQUESTS / (steps * step_seconds(config, song_seconds, delivered))


if __name__ == "__main__":
    print("\n".join(measure()))
