"""Audio files as they are written."""

from __future__ import annotations

import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from musicgen_core.audio.ffmpeg import encode_mp3
from musicgen_core.audio.files import encode_wav, write_audio
from musicgen_core.errors import AudioEncodeError
from tests.musicgen_core.audio.signals import RATE, sine, waveform


def test_wav_is_16_bit_rounded_and_clipped() -> None:
    values = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 0.4 / 32767, 0.6 / 32767, -0.6 / 32767])
    with wave.open(BytesIO(encode_wav(waveform(values, values[::-1])))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, RATE, 8)
        written = np.frombuffer(file.readframes(8), "<i2").reshape(-1, 2).T
    expected = [0, 32767, -32767, 32767, -32768, 0, 1, -1]
    assert written.tolist() == [expected, expected[::-1]]


@pytest.mark.parametrize("encode", [encode_wav, encode_mp3])
def test_what_is_no_number_is_not_written(encode) -> None:
    with pytest.raises(AudioEncodeError, match="not numbers"):
        encode(waveform(np.array([0.0, np.nan])))


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioEncodeError, match=r"\.wav or \.mp3"):
        write_audio(tmp_path / "a.ogg", waveform(sine(440, 0.1)))
