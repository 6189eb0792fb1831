"""Splits a signal into frequency bands that add up to it, and matches one signal's bands to another's.

The bands are differences of windowed-sinc low-pass filters whose cutoffs are evenly spaced in mel, as in julius's
SplitBands, with which MultiBand Diffusion was trained. Everything is float32, as there: the filters' length follows
from a rounded cutoff.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

ZERO_CROSSINGS = 8
"""Zero crossings of the lowest filter's sinc, on both sides together; all filters have its length."""


class FilterBank:
    """Mel-spaced frequency bands from 0 to half the sample rate."""

    def __init__(self, bands: int, sample_rate: int) -> None:
        """Compute the filters. Raises ValueError for less than one band."""
        if bands < 1:
            raise ValueError(f"a filter bank needs at least one band, got {bands}")
        self.bands = bands
        """The number of bands."""
        edges = _mel_spaced(bands + 1, sample_rate / 2)[1:-1] / sample_rate
        self._half = int(ZERO_CROSSINGS / edges[0] / 2) if bands > 1 else 0
        time = torch.arange(-self._half, self._half + 1)
        window = torch.hann_window(2 * self._half + 1, periodic=False)
        filters = [2 * edge * window * torch.sinc(2 * edge * time) for edge in edges]
        self._filters = [taps / taps.sum() for taps in filters]

    def split(self, signal: Tensor) -> Iterator[Tensor]:
        """The bands of a signal `[..., samples]`, lowest first, one at a time; each has the signal's shape."""
        samples = signal.shape[-1]
        padded = F.pad(signal.reshape(-1, samples), (self._half, self._half), mode="replicate")
        length = fast_length(padded.shape[-1])
        spectrum = torch.fft.rfft(padded, length)
        below = torch.zeros_like(signal)
        for taps in self._filters:
            # A convolution, for the filters are symmetric; its first samples, before the filter is filled, are dropped.
            response = torch.fft.rfft(taps.to(signal.device), length)
            filtered = torch.fft.irfft(spectrum * response, length)[:, 2 * self._half :][:, :samples]
            low = filtered.reshape(signal.shape)
            yield low - below
            below = low
        yield signal - below


def fast_length(samples: int) -> int:
    """The smallest number of `samples` or more that has no prime factor above 5: Fourier transforms of it are fast."""
    powers = samples.bit_length() + 1
    threes, fives = ([base**power for power in range(powers)] for base in (3, 5))
    odd = (three * five for three in threes for five in fives)
    length: int = min(part << (-(-samples // part) - 1).bit_length() for part in odd)
    return length


def match_bands(signal: Tensor, reference: Tensor, bank: FilterBank) -> Tensor:
    """Scale each band of a signal `[channels, samples]` to the standard deviation of the reference's band.

    Each channel is scaled separately.
    """
    matched = torch.zeros_like(signal)
    for band, target in zip(bank.split(signal), bank.split(reference), strict=True):
        strength = band.std(-1, keepdim=True).clamp_min(torch.finfo(band.dtype).tiny)
        matched += band * (target.std(-1, keepdim=True) / strength)
    return matched


def _mel_spaced(count: int, highest: float) -> Tensor:
    """Frequencies in Hz from 0 to `highest`, evenly spaced in mel (O'Shaughnessy, 1987)."""
    mels = torch.linspace(0.0, 2595 * math.log10(1 + highest / 700), count)
    frequencies: Tensor = 700 * (10 ** (mels / 2595) - 1)
    return frequencies
