"""Melody conditioning: the chromagram of a sound, the loudest pitch class of each frame.

As in MusicGen (Copet et al., "Simple and Controllable Music Generation", 2023, https://arxiv.org/abs/2306.05284,
section 2.2) and audiocraft 1.3. The projection to the language model's width belongs to the language model.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from musicgen_core.audio.waveform import Waveform
from musicgen_core.conditioning.stems import StemSeparator

N_FFT = 16_384
"""Samples of a window of the spectrogram."""
HOP = 4096
"""Samples between two frames of the chromagram."""


class MelodyConditioner:
    """Turns audio into the one-hot chromagram that melody models follow."""

    def __init__(self, *, sample_rate: int, bins: int, frames: int, separator: StemSeparator | None = None) -> None:
        """Prepare the filters.

        `sample_rate`: of the melodies, Hz. `bins`: pitch classes. `frames`: chroma frames that the model sees.
        `separator`: takes drums and bass out first; None reads the whole mix.
        """
        self._sample_rate = sample_rate
        self._frames = frames
        self._separator = separator
        self._filters = torch.from_numpy(chroma_filters(bins, sample_rate)).float()
        self._window = torch.hann_window(N_FFT)

    @torch.inference_mode()
    def encode(self, melody: Waveform) -> torch.Tensor:
        """One-hot chroma `[frames, bins]`, float32, on the CPU. Raises ValueError for another sample rate.

        A melody shorter than the model's 30 s is repeated, a longer one is cut. As in audiocraft, the chroma is
        repeated and cut; transformers' extractor cuts the waveform, which changes the last two frames of a long melody.
        """
        if melody.sample_rate != self._sample_rate:
            raise ValueError(f"expected a melody at {self._sample_rate} Hz, got {melody.sample_rate} Hz")
        # Samples beyond the last frame's window cannot change the chroma, so they are not separated either.
        samples = torch.from_numpy(melody.samples)[:, : self._frames * HOP + N_FFT]
        if self._separator is not None:
            samples = self._separator.without_rhythm(samples, self._sample_rate)
        chroma = self.chroma(samples.mean(dim=0))
        return chroma.repeat(math.ceil(self._frames / chroma.shape[0]), 1)[: self._frames]

    def chroma(self, samples: torch.Tensor) -> torch.Tensor:
        """One-hot chroma `[1 + samples // 4096, bins]` of a mono signal `[samples]`; digital silence is bin 0."""
        missing = max(0, N_FFT - samples.shape[0])
        samples = functional.pad(samples, (missing // 2, missing - missing // 2))
        spectrum = torch.stft(
            samples, N_FFT, HOP, window=self._window, center=True, pad_mode="reflect", return_complex=True
        )
        # As torchaudio's Spectrogram(power=2, normalized=True): divided by the window's energy.
        power = (spectrum / self._window.square().sum().sqrt()).abs().square()
        loudest = (self._filters @ power).argmax(dim=0)
        return functional.one_hot(loudest, self._filters.shape[0]).float()


def chroma_filters(bins: int, sample_rate: int) -> NDArray[np.float64]:
    """How much each frequency of a spectrum counts for each pitch class: `[bins, N_FFT // 2 + 1]`.

    Those of librosa and transformers: bumps around the pitches of each class, C first, at A = 440 Hz; each frequency's
    weights have norm 1, and then fade with the octaves above and below the fifth.
    """
    frequencies = np.linspace(0, sample_rate, N_FFT, endpoint=False)[1:]
    pitches = bins * np.log2(frequencies / (440.0 / 16))
    # 0 Hz has no pitch: it gets one 1.5 octaves below the next frequency's.
    pitches = np.concatenate(([pitches[0] - 1.5 * bins], pitches))
    widths = np.concatenate((np.maximum(np.diff(pitches), 1.0), [1.0]))
    half = np.round(bins / 2)
    distances = np.remainder(pitches - np.arange(bins)[:, None] + half + 10 * bins, bins) - half
    filters = np.exp(-0.5 * (2 * distances / widths) ** 2)
    filters /= np.sum(filters**2.0, axis=0) ** 0.5
    filters *= np.exp(-0.5 * ((pitches / bins - 5) / 2) ** 2)
    # The first class was A.
    from_c: NDArray[np.float64] = np.roll(filters, -3 * (bins // 12), axis=0)[:, : N_FFT // 2 + 1]
    return np.ascontiguousarray(from_c)


def load_melody_conditioner(*, sample_rate: int, bins: int, frames: int, device: torch.device) -> MelodyConditioner:
    """Create a melody conditioner, with stem separation where demucs and its weights are installed."""
    separator = StemSeparator.load(device)
    return MelodyConditioner(sample_rate=sample_rate, bins=bins, frames=frames, separator=separator)
