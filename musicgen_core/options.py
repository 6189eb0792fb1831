"""What a caller may choose, for all who must know it: this library, the API and the command line.

Imports nothing but the standard library: the API process reads it without loading the engine.
"""

from __future__ import annotations

from enum import StrEnum

MAX_SEED = 2**32 - 1
"""The largest seed of the random numbers; the smallest is 0."""
MAX_ADAPTER_STRENGTH = 2.0
"""How often an adapter's change is added, at most."""


class NormalizationStrategy(StrEnum):
    """How the output's level is set."""

    LOUDNESS = "loudness"
    """-14 LUFS, with true peaks limited to -1 dBTP."""
    CLIP = "clip"
    """No gain; samples are clipped at -1 dBFS."""
    PEAK = "peak"
    """The highest sample at -1 dBFS."""
    RMS = "rms"
    """-18 dBFS RMS over all channels; samples are clipped at full scale."""


class ContinuationMode(StrEnum):
    """What `duration` means when `input_audio` is continued."""

    EXTEND = "extend"
    """The new music alone."""
    TOTAL = "total"
    """The clip and the new music together."""


class OutputFormat(StrEnum):
    """The output file's format."""

    WAV = "wav"
    """16-bit PCM."""
    MP3 = "mp3"
    """320 kbit/s."""
    FLAC = "flac"
    """The samples of `wav`, compressed without loss."""
    WAV24 = "wav24"
    """24-bit PCM."""

    @property
    def extension(self) -> str:
        """How the names of such files end, without the dot."""
        return "wav" if self is OutputFormat.WAV24 else self.value

    @property
    def content_type(self) -> str:
        """The media type of such files."""
        return {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac"}[self.extension]
