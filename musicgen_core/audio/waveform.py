"""Sound as samples: the waveform, its channels, and its 16-bit and 24-bit forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_core.errors import AudioEncodeError

PCM16_FULL_SCALE = 32767
PCM24_FULL_SCALE = 8_388_607


@dataclass(frozen=True)
class Waveform:
    """Sound in memory. Raises ValueError unless the samples are float32 with two axes."""

    samples: NDArray[np.float32]
    """`[channels, samples]`; full scale is 1."""
    sample_rate: int
    """Hz."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise ValueError(f"expected float32 [channels, samples], got {self.samples.dtype} {self.samples.shape}")

    @property
    def channels(self) -> int:
        """The number of channels: 1 is mono, 2 is stereo."""
        return int(self.samples.shape[0])

    @property
    def duration(self) -> float:
        """The length in seconds."""
        return int(self.samples.shape[1]) / self.sample_rate


def mix_channels(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Mix `[any channels, samples]` to mono or stereo; NaN and infinities become silence.

    Mono is the mean of all channels. Stereo is the first two, or a mono signal twice.
    """
    if channels == 1:
        mixed = samples.mean(axis=0, keepdims=True, dtype=np.float32)
    else:
        mixed = samples[:2] if samples.shape[0] > 1 else np.repeat(samples, 2, axis=0)
    cleaned: NDArray[np.float32] = np.nan_to_num(mixed.astype(np.float32), posinf=0.0, neginf=0.0)
    return cleaned


def to_pcm16(waveform: Waveform) -> bytes:
    """Interleaved little-endian 16-bit samples; what exceeds full scale is clipped.

    Raises AudioEncodeError for NaN and infinities.
    """
    return _quantized(waveform, PCM16_FULL_SCALE).astype("<i2").tobytes()


def to_pcm24(waveform: Waveform) -> bytes:
    """The same with 24 bits."""
    wide = _quantized(waveform, PCM24_FULL_SCALE).astype("<i4", order="C")
    return wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def _quantized(waveform: Waveform, full_scale: int) -> NDArray[np.float32]:
    """Whole numbers `[samples, channels]`, the highest of which is `full_scale`."""
    if not np.isfinite(waveform.samples).all():
        raise AudioEncodeError("The audio holds values that are not numbers; it cannot be written.")
    scaled = np.rint(waveform.samples.T * np.float32(full_scale))
    clipped: NDArray[np.float32] = np.clip(scaled, -full_scale - 1, full_scale)
    return clipped
