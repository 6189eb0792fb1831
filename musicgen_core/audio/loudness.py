"""Loudness and true peak as ITU-R BS.1770-4 defines them, and four strategies that normalize by them.

scipy's filters are imported where they are used: they take half as long as torch, and loading a model needs none.
`import_filters` imports them ahead of their use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgen_core.audio.waveform import Waveform
from musicgen_core.errors import InvalidRequest
from musicgen_core.options import NormalizationStrategy

Samples = NDArray[np.float32]

TARGET_LUFS = -14.0
TARGET_RMS = 10 ** (-18 / 20)
CEILING = 10 ** (-1 / 20)
"""-1 dBFS: the level of the strategies clip and peak, and of the true-peak limiter."""
QUIET_RMS = 2e-3
"""Audio below this level is left as it is by loudness normalization, which would only amplify noise."""

BLOCK_SECONDS = 0.4
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
OVERSAMPLING = 4
BLOCK_SAMPLES = 2**20
"""Samples that are oversampled at a time: 300 s at four times the rate in float64 would take gigabytes."""
REACH = 64
"""Samples of context on either side of a block; more than the oversampling filter's half-width."""
LOOK_AHEAD_SECONDS = 0.005
LIMITER_ROUNDS = 8
MAX_LIMITING_DB = 20.0
"""The most that the limiter reduces a peak: without a bound, the noise between two clicks would be raised to the
target."""


def import_filters() -> None:
    """Import scipy's filters, so that the first use need not."""
    from scipy import ndimage, signal  # noqa: F401


def normalize(waveform: Waveform, strategy: NormalizationStrategy) -> Waveform:
    """The waveform at the strategy's level; silence stays silence. Raises InvalidRequest for NaN and infinities."""
    samples = waveform.samples
    if not np.isfinite(samples).all():
        raise InvalidRequest("The audio holds values that are not numbers; it cannot be normalised.")
    match strategy:
        case NormalizationStrategy.LOUDNESS:
            leveled = _to_loudness(waveform)
        case NormalizationStrategy.CLIP:
            leveled = np.clip(samples, -CEILING, CEILING)
        case NormalizationStrategy.PEAK:
            leveled = samples * _gain(CEILING, float(np.abs(samples).max(initial=0.0)))
        case NormalizationStrategy.RMS:
            leveled = np.clip(samples * _gain(TARGET_RMS, _rms(samples)), -1.0, 1.0)
    return Waveform(leveled.astype(np.float32), waveform.sample_rate)


def integrated_loudness(waveform: Waveform) -> float:
    """Gated loudness in LUFS; -inf for silence. A clip shorter than one block (0.4 s) is measured as one block."""
    weighted = _k_weighted(waveform)
    block = min(round(BLOCK_SECONDS * waveform.sample_rate), weighted.shape[1])
    if not block:
        return -np.inf
    hop = max(block // 4, 1)
    energy = np.concatenate(([0.0], np.cumsum(np.square(weighted).sum(axis=0))))
    starts = np.arange(0, weighted.shape[1] - block + 1, hop)
    powers = (energy[starts + block] - energy[starts]) / block
    powers = powers[_lufs(powers) > ABSOLUTE_GATE_LUFS]
    if not powers.size:
        return -np.inf
    gate = _lufs(powers.mean()) + RELATIVE_GATE_LU
    return float(_lufs(powers[_lufs(powers) > gate].mean()))


def true_peak(waveform: Waveform) -> float:
    """The highest level at and between the samples in dBTP, by fourfold oversampling; -inf for silence."""
    peak = float(peak_envelope(waveform.samples).max()) if waveform.samples.size else 0.0
    return 20 * float(np.log10(peak)) if peak else -np.inf


def _to_loudness(waveform: Waveform) -> Samples:
    """Samples at -14 LUFS, or as near to it as the limiter allows.

    Limiting reduces loudness, so gain and limiter are repeated until the result has the target's loudness.
    """
    samples = waveform.samples
    loudness = integrated_loudness(waveform)
    if _rms(samples) < QUIET_RMS or not np.isfinite(loudness):
        return samples
    peaks, limited = peak_envelope(samples), samples
    highest_db = 20 * np.log10(CEILING / peaks.max()) + MAX_LIMITING_DB
    gain_db = min(TARGET_LUFS - loudness, highest_db)
    for _ in range(LIMITER_ROUNDS):
        gain = float(10 ** (gain_db / 20))
        limited = _limit(samples * np.float32(gain), peaks * gain, waveform.sample_rate)
        missing = TARGET_LUFS - integrated_loudness(Waveform(limited, waveform.sample_rate))
        if abs(missing) < 0.05 or gain_db + missing > highest_db == gain_db:
            break
        gain_db = min(gain_db + missing, highest_db)
    return limited


def peak_envelope(samples: Samples) -> NDArray[np.float64]:
    """The true peak around each sample, `[channels, samples]` to `[samples]`.

    It is the highest absolute value, over all channels, of the sample and of the points between it and its neighbours.
    """
    firsts = range(0, samples.shape[1], BLOCK_SAMPLES)
    return np.concatenate([_block_peaks(samples[:, max(0, first - REACH) :], min(first, REACH)) for first in firsts])


def _block_peaks(samples: Samples, first: int) -> NDArray[np.float64]:
    """`peak_envelope` of one block that begins at sample `first`; the samples around it are the filter's context."""
    samples = samples[:, : first + BLOCK_SAMPLES + REACH]
    padded = np.pad(_oversampled_peaks(samples).max(axis=0), (OVERSAMPLING - 1, OVERSAMPLING))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * OVERSAMPLING - 1)[::OVERSAMPLING]
    highest: NDArray[np.float64] = windows[first : min(first + BLOCK_SAMPLES, samples.shape[1])].max(axis=1)
    return highest


def _limit(samples: Samples, peaks: NDArray[np.float64], sample_rate: int) -> Samples:
    """Keep true peaks under the ceiling with a gain that falls before each peak and rises smoothly after it."""
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    needed = np.minimum(1.0, CEILING / np.maximum(peaks, 1e-12))
    if needed.min() == 1.0:
        return samples
    half = round(LOOK_AHEAD_SECONDS * sample_rate)
    # The minimum is held for the width of the smoothing, so that the smoothed gain is low enough at the peak itself.
    held = minimum_filter1d(needed, 2 * half + 1, mode="nearest")
    gain = uniform_filter1d(held, 2 * half + 1, mode="nearest")
    limited: Samples = (samples * np.minimum(gain, needed)).astype(np.float32)
    return limited


def _oversampled_peaks(samples: Samples) -> NDArray[np.float64]:
    """Absolute values at four times the rate, `[channels, 4 * samples]`."""
    from scipy.signal import resample_poly

    return np.abs(resample_poly(samples.astype(np.float64), OVERSAMPLING, 1, axis=1))


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0


def _gain(target: float, level: float) -> np.float32:
    return np.float32(target / level) if level > 0 else np.float32(1.0)


def _lufs(power: NDArray[np.float64] | np.floating) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return -0.691 + 10 * np.log10(power)


def _k_weighted(waveform: Waveform) -> NDArray[np.float64]:
    from scipy.signal import lfilter

    weighted = waveform.samples.astype(np.float64)
    for numerator, denominator in _k_filters(waveform.sample_rate):
        weighted = lfilter(numerator, denominator, weighted, axis=1)
    return weighted


def _k_filters(rate: int) -> list[tuple[list[float], list[float]]]:
    """The K-weighting filters of BS.1770-4 at any sample rate: a high shelf for the head and a low cut.

    The recommendation lists coefficients for 48 kHz only; the bilinear transform derives them from these parameters.
    """
    k = np.tan(np.pi * 1681.974450955533 / rate)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    shelf = (
        [(high + band * k / q + k * k) / a0, 2 * (k * k - high) / a0, (high - band * k / q + k * k) / a0],
        [1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0],
    )
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    low_cut = ([1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0])
    return [shelf, low_cut]
