"""What a request takes from its audio file: which part, and how much new music is made after it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from musicgen_core.audio.waveform import Waveform
from musicgen_core.errors import InvalidRequest

ContinuationMode = Literal["extend", "total"]
"""What a continuation's duration counts: "extend", the new music alone; "total", the clip and the new
music."""


def trim(clip: Waveform, *, start: float = 0.0, end: float | None = None) -> Waveform:
    """The part of a clip from `start` to `end`, in seconds.

    An `end` of None or -1 is the clip's end, and so is one past it. Raises InvalidRequest where nothing would
    be left.
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
    """So many samples of a clip played over and over, from its sample `first` on."""
    looped = clip.samples.take(np.arange(first, first + samples), axis=1, mode="wrap")
    return Waveform(samples=looped, sample_rate=clip.sample_rate)


def frames_of(clip: Waveform, *, hop: int) -> int:
    """How many token frames a clip fills, the last perhaps in part; `hop` is samples a frame."""
    samples: int = clip.samples.shape[1]
    return -(-samples // hop)


def new_seconds(duration: float, clip: Waveform, *, mode: ContinuationMode, hop: int) -> float:
    """How many seconds of new music a continuation of `clip` needs, so that the result has the asked-for
    length.

    The clip counts in whole frames. Raises InvalidRequest where, in mode "total", the clip fills `duration`
    already.
    """
    if mode == "extend":
        return duration
    rest = duration - frames_of(clip, hop=hop) * hop / clip.sample_rate
    if round(rest * clip.sample_rate / hop) < 1:
        raise InvalidRequest(
            f"The clip to continue is {clip.duration:.2f} s long, which leaves no room for new music in "
            f"{duration:g} s in all. Use a shorter part of it (continuation_start, continuation_end), a "
            "longer duration, or the continuation mode extend."
        )
    return rest
