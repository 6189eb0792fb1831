"""The WAV formats of live audio: stored chunks of float samples, and a 16-bit stream of unknown length."""

from __future__ import annotations

import struct
from array import array

UNKNOWN_SIZE = 0xFFFFFFFF
"""The length in the header of a WAV file that is still being written: players then read to the end."""

_FLOAT_HEADER = struct.Struct("<4sI4s 4sIHHIIHHH 4sII 4sI")
_PCM_HEADER = struct.Struct("<4sI4s 4sIHHIIHH 4sI")


def float_wav(samples: bytes, *, sample_rate: int, channels: int) -> bytes:
    """A WAV file of interleaved little-endian float32 samples, neither rounded nor clipped."""
    frame = 4 * channels
    header = _FLOAT_HEADER.pack(
        *(b"RIFF", _FLOAT_HEADER.size - 8 + len(samples), b"WAVE"),
        *(b"fmt ", 18, 3, channels, sample_rate, sample_rate * frame, frame, 32, 0),
        *(b"fact", 4, len(samples) // frame),
        *(b"data", len(samples)),
    )
    return header + samples


def streaming_header(chunk: bytes) -> bytes:
    """The header of a 16-bit WAV stream of unknown length, with the format of this `float_wav`."""
    fields = _FLOAT_HEADER.unpack_from(chunk)
    channels, sample_rate = fields[6], fields[7]
    frame = 2 * channels
    return _PCM_HEADER.pack(
        *(b"RIFF", UNKNOWN_SIZE, b"WAVE"),
        *(b"fmt ", 16, 1, channels, sample_rate, sample_rate * frame, frame, 16),
        *(b"data", UNKNOWN_SIZE),
    )


def pcm16(chunk: bytes) -> bytes:
    """The samples of a `float_wav` as 16-bit samples, clipped at full scale."""
    samples = struct.iter_unpack("<f", chunk[_FLOAT_HEADER.size :])
    return array("h", [round(32767 * max(-1.0, min(1.0, sample))) for (sample,) in samples]).tobytes()
