"""Tempo and key of music, by librosa, as additions to captions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finetuning.errors import InvalidSettings
from musicgen_core.audio.waveform import Waveform

TONICS = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
"""How well each pitch class fits a key, from the tonic on (Krumhansl, "Cognitive Foundations of Musical Pitch", 1990,
the probe-tone ratings of Krumhansl and Kessler)."""
LOWEST_HZ = 65.4
"""C2: drums and noise below it have no pitch."""


def require_librosa() -> None:
    """Raise InvalidSettings where librosa is not installed."""
    try:
        import librosa  # noqa: F401
    except ImportError as error:
        raise InvalidSettings(
            "Tempo and key need librosa: install musicgen-server[finetuning], or leave them out."
        ) from error


def tempo(waveform: Waveform) -> int | None:
    """Beats per minute; None where there is no beat."""
    import librosa

    found, beats = librosa.beat.beat_track(y=waveform.samples.mean(axis=0), sr=waveform.sample_rate)
    return round(float(np.atleast_1d(found)[0])) if len(beats) > 1 else None


def key(waveform: Waveform) -> str:
    """The most likely key, such as "A minor": that whose profile correlates best with the chroma."""
    import librosa

    chroma: NDArray[np.float64] = librosa.feature.chroma_cqt(
        y=waveform.samples.mean(axis=0), sr=waveform.sample_rate, fmin=LOWEST_HZ
    ).mean(axis=1)
    fits = {
        f"{tonic} {mode}": np.corrcoef(np.roll(profile, shift), chroma)[0, 1]
        for mode, profile in PROFILES.items()
        for shift, tonic in enumerate(TONICS)
    }
    return max(fits, key=lambda name: fits[name])
