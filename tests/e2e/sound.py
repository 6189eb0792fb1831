"""Sounds to send as input audio; reading and measuring those that are generated."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgen_core.audio.ffmpeg import ffmpeg_path
from musicgen_core.audio.files import encode_wav
from musicgen_core.audio.waveform import Waveform

RATE = 32_000
Samples = NDArray[np.float32]


def tone(seconds: float, frequency: float = 220.0, rate: int = RATE) -> Samples:
    """A sine `[1, samples]`, quantized to even 16-bit steps, so that the mean of two is exact too."""
    sine = np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return np.float32(2 * np.rint(4000 * sine[None]) / 32767)


def wav(samples: Samples, rate: int = RATE) -> bytes:
    return encode_wav(Waveform(samples, rate))


def clip(seconds: float, frequency: float = 220.0, channels: int = 1) -> bytes:
    """A tone as a wav file."""
    return wav(np.tile(tone(seconds, frequency), (channels, 1)))


def data_uri(content: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(content).decode()}"


def read_wav(content: bytes) -> Samples:
    """Samples `[channels, samples]` of a 16-bit wav file at 32 kHz."""
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (RATE, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return np.float32(samples.reshape(-1, file.getnchannels()).T / 32768)


def unmarked(content: bytes) -> bytes:
    """An output file without the tags that say where it comes from; a FLAC file as it is."""
    if content.startswith(b"ID3"):
        first, second, third, last = content[6:10]
        return content[10 + (first << 21 | second << 14 | third << 7 | last) :]
    if content.startswith(b"RIFF"):
        end = 44 + int.from_bytes(content[40:44], "little")
        return b"RIFF" + (end - 8).to_bytes(4, "little") + content[8:end]
    return content


def measure(content: bytes) -> tuple[float, float]:
    """Integrated loudness in LUFS and true peak in dBTP of an audio file, by ffmpeg."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        path.write_bytes(content)
        command = [ffmpeg_path(), "-hide_banner", "-i", str(path), "-af", "ebur128=peak=true", "-f", "null", "-"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr.rpartition("Summary:")[2]
    found = {name: float(value) for name, value in re.findall(r"^\s+(I|Peak):\s+(-?[\d.]+)", said, re.MULTILINE)}
    return found["I"], found["Peak"]
