"""What a duration means for a continuation: how much new music follows the clip."""

from __future__ import annotations

from musicgen_core.audio.waveform import Waveform
from musicgen_core.errors import InvalidRequest
from musicgen_core.options import ContinuationMode


def frames_of(clip: Waveform, *, hop: int) -> int:
    """How many token frames a clip fills, the last one perhaps in part; `hop`: samples per frame."""
    samples: int = clip.samples.shape[1]
    return -(-samples // hop)


def new_seconds(duration: float, clip: Waveform, *, mode: ContinuationMode, hop: int) -> float:
    """Seconds of new music that a continuation of `clip` needs, so that the result has the requested length.

    `duration`: seconds of the new music with mode "extend", of clip and new music together with "total", where the
    clip counts in whole frames. `hop`: samples per frame. Raises InvalidRequest where the clip fills `duration`.
    """
    if mode == ContinuationMode.EXTEND:
        return duration
    rest = duration - frames_of(clip, hop=hop) * hop / clip.sample_rate
    if round(rest * clip.sample_rate / hop) < 1:
        raise InvalidRequest(
            f"The clip to continue is {clip.duration:.2f} s long, which leaves no room for new music in "
            f"{duration:g} s in all. Use a shorter part of it (continuation_start, continuation_end), a "
            "longer duration, or the continuation mode extend."
        )
    return rest
