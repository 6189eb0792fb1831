"""Parts of a clip of audio: what is used of it, and the clip played over and over."""

from __future__ import annotations

import numpy as np

from musicgen_core.audio.waveform import Waveform
from musicgen_core.errors import InvalidRequest


def trim(clip: Waveform, *, start: float = 0.0, end: float | None = None) -> Waveform:
    """The part of a clip from `start` to `end`, in seconds.

    An `end` of None or -1 is the clip's end, and so is one past it. Raises InvalidRequest where nothing would be left.
    """
    end = clip.duration if end is None or end == -1 else end
    if start < 0 or end < 0:
        raise InvalidRequest(f"The used part of the audio cannot begin or end at a negative time ({start} to {end} s).")
    if start >= clip.duration:
        raise InvalidRequest(f"The part used begins at {start:g} s, but the audio is only {clip.duration:.2f} s long.")
    first, last = (round(seconds * clip.sample_rate) for seconds in (start, min(end, clip.duration)))
    if first >= last:
        raise InvalidRequest(
            f"The part used, from {start:g} to {end:g} s, is empty: its end must come after its start."
        )
    return Waveform(samples=clip.samples[:, first:last], sample_rate=clip.sample_rate)


def loop(clip: Waveform, *, first: int, samples: int) -> Waveform:
    """So many `samples` of a clip that is played over and over, from its sample `first` on."""
    looped = clip.samples.take(np.arange(first, first + samples), axis=1, mode="wrap")
    return Waveform(samples=looped, sample_rate=clip.sample_rate)
