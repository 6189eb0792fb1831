"""Waveforms as the content of audio files: WAV here, MP3 through ffmpeg."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np

from musicgen_core.audio.ffmpeg import encode_mp3
from musicgen_core.audio.waveform import Waveform, to_pcm16
from musicgen_core.errors import AudioEncodeError


def encode_wav(waveform: Waveform) -> bytes:
    """A WAV file of 16-bit PCM; what exceeds full scale is clipped. Raises AudioEncodeError for NaN and infinities."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(waveform.channels)
        file.setsampwidth(2)
        file.setframerate(waveform.sample_rate)
        file.writeframes(to_pcm16(waveform))
    return buffer.getvalue()


def decode_wav(content: bytes) -> Waveform:
    """Read a WAV file that `encode_wav` wrote, scaled as players do: 32768 is full scale."""
    with wave.open(io.BytesIO(content)) as file:
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return Waveform(np.ascontiguousarray(values.T / np.float32(32768)), file.getframerate())


def write_audio(path: Path | str, waveform: Waveform) -> None:
    """Write a file whose suffix, .wav or .mp3, chooses the format. Raises AudioEncodeError."""
    path = Path(path)
    encoders = {".wav": encode_wav, ".mp3": encode_mp3}
    encode = encoders.get(path.suffix.lower())
    if encode is None:
        raise AudioEncodeError(f"Cannot write {path.name}: choose a name that ends in .wav or .mp3.")
    path.write_bytes(encode(waveform))
