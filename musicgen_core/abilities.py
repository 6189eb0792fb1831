"""What a loaded model can do."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_SECONDS = 30
"""What MusicGen was trained on, and the longest it hears at once; longer music is made window by window."""


@dataclass(frozen=True)
class Abilities:
    """What a loaded model can do."""

    melody: bool
    """Whether it follows melodies."""
    channels: int
    """1: mono, 2: stereo."""
    sample_rate: int
    """Hz."""
    frame_rate: int
    """Token frames a second."""
    delay_frames: int = 3
    """Further decoding steps of each window: the largest delay among the codebooks."""
    max_seconds: int = WINDOW_SECONDS
    """The longest result, an audio prompt included."""
    multi_band_diffusion: bool = False
    """Whether its folder carries a MultiBand Diffusion."""
