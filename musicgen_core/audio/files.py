"""Waveforms as the content of audio files: WAV here, MP3 and FLAC through ffmpeg."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from musicgen_core.audio.ffmpeg import encode_flac, encode_mp3
from musicgen_core.audio.marks import Marks, mark
from musicgen_core.audio.waveform import Waveform, to_pcm16, to_pcm24
from musicgen_core.errors import AudioEncodeError
from musicgen_core.options import OutputFormat


def encode_audio(waveform: Waveform, output_format: OutputFormat, marks: Marks | None = None) -> bytes:
    """A file in this format, which says where it comes from if there are `marks`. Raises AudioEncodeError."""
    content = _ENCODERS[output_format](waveform)
    return content if marks is None else mark(content, output_format, marks)


def encode_wav(waveform: Waveform) -> bytes:
    """A WAV file of 16-bit PCM; what exceeds full scale is clipped. Raises AudioEncodeError for NaN and infinities."""
    return _wav(waveform, to_pcm16(waveform), 2)


def encode_wav24(waveform: Waveform) -> bytes:
    """The same with 24-bit PCM."""
    return _wav(waveform, to_pcm24(waveform), 3)


def _wav(waveform: Waveform, frames: bytes, sample_bytes: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(waveform.channels)
        file.setsampwidth(sample_bytes)
        file.setframerate(waveform.sample_rate)
        file.writeframes(frames)
    return buffer.getvalue()


_ENCODERS: dict[OutputFormat, Callable[[Waveform], bytes]] = {
    OutputFormat.WAV: encode_wav,
    OutputFormat.MP3: encode_mp3,
    OutputFormat.FLAC: encode_flac,
    OutputFormat.WAV24: encode_wav24,
}


def decode_wav(content: bytes) -> Waveform:
    """Read a WAV file of 16-bit or 24-bit PCM, scaled as players do: the lowest value is -1."""
    with wave.open(io.BytesIO(content)) as file:
        width = file.getsampwidth()
        values = np.frombuffer(file.readframes(file.getnframes()), np.uint8).reshape(-1, width)
        wide = np.zeros((len(values), 4), np.uint8)
        wide[:, 4 - width :] = values
        samples = wide.view("<i4").reshape(-1, file.getnchannels()).T.astype(np.float32)
        return Waveform(np.ascontiguousarray(samples / np.float32(2**31)), file.getframerate())


def write_audio(path: Path | str, waveform: Waveform, marks: Marks | None = None) -> None:
    """Write a file whose suffix, .wav, .mp3 or .flac, chooses the format. Raises AudioEncodeError."""
    path = Path(path)
    formats = {".wav": OutputFormat.WAV, ".mp3": OutputFormat.MP3, ".flac": OutputFormat.FLAC}
    output_format = formats.get(path.suffix.lower())
    if output_format is None:
        raise AudioEncodeError(f"Cannot write {path.name}: choose a name that ends in .wav, .mp3 or .flac.")
    path.write_bytes(encode_audio(waveform, output_format, marks))
