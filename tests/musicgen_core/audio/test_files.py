"""Audio files as they are written."""

from __future__ import annotations

import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from musicgen_core.audio.ffmpeg import encode_flac, encode_mp3
from musicgen_core.audio.files import decode_wav, encode_wav, encode_wav24, write_audio
from musicgen_core.errors import AudioEncodeError
from tests.musicgen_core.audio.signals import RATE, read, sine, waveform


def test_wav_is_16_bit_rounded_and_clipped() -> None:
    values = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 0.4 / 32767, 0.6 / 32767, -0.6 / 32767])
    with wave.open(BytesIO(encode_wav(waveform(values, values[::-1])))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, RATE, 8)
        written = np.frombuffer(file.readframes(8), "<i2").reshape(-1, 2).T
    expected = [0, 32767, -32767, 32767, -32768, 0, 1, -1]
    assert written.tolist() == [expected, expected[::-1]]


def test_24_bits_are_rounded_and_clipped() -> None:
    full = 2**23
    values = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 0.4 / full, 0.6 / full, -0.6 / full, 0.25])
    content = encode_wav24(waveform(values, values[::-1]))
    with wave.open(BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 3, RATE, 9)
    expected = [0, full - 1, 1 - full, full - 1, -full, 0, 1, -1, 2**21]
    assert (decode_wav(content).samples * full).tolist() == [expected, expected[::-1]]


def test_a_wav_is_read_back_as_players_read_it() -> None:
    sound = waveform(sine(440, 0.1), sine(660, 0.1))
    back = decode_wav(encode_wav(sound))
    assert back.sample_rate == RATE
    assert np.array_equal(np.rint(sound.samples * 32767), back.samples * 32768)


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_has_the_samples_of_the_wav_in_fewer_bytes(channels: int, tmp_path: Path) -> None:
    sound = waveform(*[sine(440, 1), sine(660, 1)][:channels])
    path = tmp_path / "a.flac"
    write_audio(path, sound)
    wav = encode_wav(sound)
    assert path.stat().st_size < len(wav)
    assert np.array_equal(read(path, channels=channels).samples, decode_wav(wav).samples)


@pytest.mark.parametrize("encode", [encode_wav, encode_wav24, encode_mp3, encode_flac])
def test_what_is_no_number_is_not_written(encode) -> None:
    with pytest.raises(AudioEncodeError, match="not numbers"):
        encode(waveform(np.array([0.0, np.nan])))


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioEncodeError, match=r"\.wav, \.mp3 or \.flac"):
        write_audio(tmp_path / "a.ogg", waveform(sine(440, 0.1)))
