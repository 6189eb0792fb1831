"""Audio files as ffmpeg reads and writes them, honest ones and hostile ones."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from musicgen_core.audio import ffmpeg as ffmpeg_module
from musicgen_core.audio.ffmpeg import encode_mp3, ffmpeg_path, read_audio
from musicgen_core.audio.files import encode_wav, write_audio
from musicgen_core.errors import AudioDecodeError, AudioEncodeError
from tests.musicgen_core.audio.signals import RATE, read, sine, waveform
from tests.servers import wait_until

CODECS = {
    "wav": [],
    "aiff": [],
    "flac": [],
    "mp3": ["-b:a", "192k"],
    "ogg": ["-c:a", "libvorbis"],
    "opus": ["-c:a", "libopus"],
    "m4a": ["-c:a", "aac", "-b:a", "192k"],
    "aac": ["-c:a", "aac", "-b:a", "192k"],
    "mov": ["-c:a", "pcm_s16le"],
    "webm": ["-c:a", "libopus"],
    "mka": ["-c:a", "flac"],
    "avi": ["-c:a", "pcm_s16le"],
    "flv": ["-c:a", "aac", "-b:a", "192k"],
    "ts": ["-c:a", "aac", "-b:a", "192k"],
    "mpg": ["-c:a", "mp2", "-b:a", "192k"],
    "wma": ["-c:a", "wmav2", "-b:a", "192k"],
    "ac3": ["-b:a", "192k"],
    "eac3": ["-b:a", "192k"],
    "wv": [],
    "tta": [],
}


def ffmpeg(*arguments: str | Path) -> None:
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def strongest(samples: np.ndarray, rate: int = RATE) -> float:
    """The frequency in Hz at which there is most."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(spectrum.argmax() * rate / samples.size)


def wav_header(path: Path, *, channels: int = 1, rate: int = 44_100, data: bytes = b"\0\1" * 50_000) -> Path:
    """A WAV file whose header says what an encoder would never write."""
    size = len(data)
    format_chunk = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + format_chunk + b"data" + struct.pack("<I", size)
    path.write_bytes(b"RIFF" + struct.pack("<I", 36 + size) + chunks + data)
    return path


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Fails where this process needs more bytes at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", CODECS)
def test_every_format_is_decoded(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source.wav", tmp_path / f"sound.{suffix}"
    # 48 kHz, so that the rate is converted, and each channel has its own tone.
    write_audio(source, waveform(sine(440, 2, 48_000), sine(1320, 2, 48_000), rate=48_000))
    ffmpeg("-i", source, *CODECS[suffix], target)
    sound = read(target, channels=2)
    assert (sound.channels, sound.sample_rate) == (2, RATE)
    # Lossy encoders pad by some frames.
    assert sound.duration == pytest.approx(2.0, abs=0.1)
    for channel, frequency in enumerate((440, 1320)):
        middle = sound.samples[channel, RATE // 2 : 3 * RATE // 2]
        assert strongest(middle) == pytest.approx(frequency, abs=1)
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_speech_of_a_telephone_is_decoded(tmp_path: Path) -> None:
    """AMR, which not every ffmpeg can write: a second of frames at 12.2 kbit/s."""
    path = tmp_path / "call.amr"
    path.write_bytes(b"#!AMR\n" + (b"\x3c" + bytes(31)) * 50)
    assert read(path).duration == pytest.approx(1.0, abs=0.1)


def test_a_format_that_is_not_read_is_answered_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "sound.voc"
    ffmpeg("-f", "lavfi", "-i", "sine=440:duration=1:sample_rate=8000", path)
    with pytest.raises(AudioDecodeError, match=r"Send WAV, MP3, FLAC, Ogg .* MPEG file\."):
        read(path)


def test_the_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "no sound: %d ünd 'quotes'.txt"
    path.write_bytes(encode_wav(waveform(sine(440, 1))))
    assert read(path).duration == 1.0


def test_mono_is_the_mean_of_all_channels(tmp_path: Path) -> None:
    levels = [0.1, 0.2, 0.3, -0.4, 0.5, 0.05]
    path = tmp_path / "six.wav"
    write_audio(path, waveform(*(np.full(RATE, level) for level in levels)))
    np.testing.assert_allclose(read(path).samples, np.mean(levels), atol=1e-4)


def test_stereo_is_the_first_two_channels_or_a_mono_file_twice(tmp_path: Path) -> None:
    path = tmp_path / "many.wav"
    write_audio(path, waveform(*(np.full(RATE, level) for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))))
    stereo = read(path, channels=2).samples
    np.testing.assert_allclose(stereo[:, RATE // 2], [0.1, 0.2], atol=1e-4)
    write_audio(path, waveform(np.full(RATE, 0.25)))
    np.testing.assert_allclose(read(path, channels=2).samples, np.full((2, RATE), 0.25), atol=1e-4)


def test_the_first_of_several_tracks_is_read_and_pictures_are_not(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    first, second = ("sine=440:duration=1:sample_rate=32000", "sine=880:duration=1:sample_rate=32000")
    inputs = ["-f", "lavfi", "-i", "testsrc=d=1:s=32x32", "-f", "lavfi", "-i", first, "-f", "lavfi", "-i", second]
    ffmpeg(*inputs, "-map", "0", "-map", "1", "-map", "2", "-c:v", "mjpeg", "-c:a", "flac", path)
    assert strongest(read(path).samples[0]) == pytest.approx(440, abs=2)


def test_a_clip_of_exactly_the_limit_passes_and_a_longer_one_does_not(tmp_path: Path) -> None:
    wav, mp3 = tmp_path / "a.wav", tmp_path / "a.mp3"
    sound = waveform(sine(440, 3))
    write_audio(wav, sound)
    write_audio(mp3, sound)
    assert read(wav, max_seconds=3).duration == read(mp3, max_seconds=3).duration == 3.0
    with pytest.raises(AudioDecodeError, match="longer than 2 s"):
        read(wav, max_seconds=2)


def test_an_hour_of_silence_in_a_small_file_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "3600", "-compression_level", "0", path)
    assert path.stat().st_size < 500_000
    # An hour at 32 kHz in float32 is 460 MB.
    with memory_below(20_000_000), pytest.raises(AudioDecodeError, match="longer than 5 s"):
        read(path, max_seconds=5)


@pytest.mark.parametrize("channels", [0, 17, 1000, 65_535])
def test_unreasonable_numbers_of_channels_are_refused(channels: int, tmp_path: Path) -> None:
    with pytest.raises(AudioDecodeError, match=r"send at most 16|no audio that can be read"):
        read(wav_header(tmp_path / "a.wav", channels=channels))


@pytest.mark.parametrize("rate", [0, 1, 3_999, 384_001, 10_000_000, 2**32 - 1])
def test_unreasonable_sample_rates_are_refused(rate: int, tmp_path: Path) -> None:
    with pytest.raises(AudioDecodeError, match=r"send 4000 to 384000 Hz|no audio that can be read"):
        read(wav_header(tmp_path / "a.wav", rate=rate))


def test_a_long_file_of_an_unreasonable_rate_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 1 Hz ffmpeg reads all of it, however little is asked for; the limit on its time would end that late."""
    monkeypatch.setattr(ffmpeg_module, "CPU_SECONDS", 5)
    path = wav_header(tmp_path / "a.wav", rate=1, data=bytes(20_000_000))
    with memory_below(500_000), pytest.raises(AudioDecodeError, match="sample rate of 1 Hz"):
        read(path)


@pytest.mark.parametrize(("channels", "rate"), [(16, 44_100), (1, 4_000), (1, 384_000)])
def test_what_is_just_reasonable_is_read(channels: int, rate: int, tmp_path: Path) -> None:
    sound = read(wav_header(tmp_path / "a.wav", channels=channels, rate=rate))
    assert sound.duration == pytest.approx(50_000 / channels / rate, abs=0.01)


def test_float_samples_that_are_no_numbers_become_silence(tmp_path: Path) -> None:
    raw, path = tmp_path / "a.raw", tmp_path / "a.wav"
    values = np.full(RATE, 0.5, "<f4")
    values[RATE // 2] = np.nan
    raw.write_bytes(values.tobytes())
    ffmpeg("-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", raw, "-c:a", "pcm_f32le", path)
    assert np.isfinite(read(path).samples).all()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "m3u": "#EXTM3U\n{target}\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "concat protocol": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nconcat:{target}|{target}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    "<Representation><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=x:{target}\n",
    "pls": "[playlist]\nFile1={target}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["mp3", "m3u8"])
def test_a_playlist_reads_no_other_file(kind: str, suffix: str, tmp_path: Path) -> None:
    secret, playlist = tmp_path / "secret.wav", tmp_path / f"playlist.{suffix}"
    write_audio(secret, waveform(sine(440, 1)))
    for target in (str(secret), "secret.wav", f"file:{secret}"):
        playlist.write_text(PLAYLISTS[kind].format(target=target))
        with pytest.raises(AudioDecodeError):
            read(playlist)


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_opens_no_connection(kind: str, tmp_path: Path) -> None:
    playlist = tmp_path / "playlist.mp3"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        for scheme in ("http", "tcp", "hls+http"):
            playlist.write_text(PLAYLISTS[kind].format(target=f"{scheme}://{address}/a.wav"))
            with pytest.raises(AudioDecodeError):
                read(playlist)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_the_playlists_would_be_read_without_the_lists_of_formats_and_protocols(tmp_path: Path) -> None:
    """The tests above can fail: a bare ffmpeg reads the other file."""
    secret, playlist = tmp_path / "secret.wav", tmp_path / "playlist.mp3"
    write_audio(secret, waveform(sine(440, 1)))
    playlist.write_text(PLAYLISTS["concat"].format(target="secret.wav"))
    ffmpeg("-i", playlist, tmp_path / "stolen.wav")
    assert (tmp_path / "stolen.wav").stat().st_size > 10_000


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "m4a", "webm"])
def test_a_truncated_file_is_read_as_far_as_it_goes_or_refused(suffix: str, tmp_path: Path) -> None:
    source, whole, half = tmp_path / "source.wav", tmp_path / f"whole.{suffix}", tmp_path / f"half.{suffix}"
    write_audio(source, waveform(sine(440, 2)))
    ffmpeg("-i", source, *CODECS[suffix], whole)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    try:
        sound = read(half)
    except AudioDecodeError:
        assert suffix == "m4a"  # Its index stands at the end.
    else:
        assert 0.5 < sound.duration < 1.5


@pytest.mark.parametrize("content", [b"", b"RIFF", b"ID3\4\0\0\0\0\0\0", b"\0" * 100_000, b"<html></html>", b"fLaC"])
def test_what_is_no_audio_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    with pytest.raises(AudioDecodeError, match="no audio that can be read") as raised:
        read(path)
    # Whoever sent it did not name this file.
    assert str(tmp_path) not in str(raised.value)


def test_random_bytes_end_in_an_error_or_in_sound(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "a.mp3"
    for magic in (b"", b"ID3\4", b"RIFF\xff\xff\xff\xffWAVEfmt ", b"fLaC\0\0\0\x22", b"OggS\0\2", b"\x1aE\xdf\xa3"):
        path.write_bytes(magic + rng.bytes(60_000))
        try:
            sound = read(path)
        except AudioDecodeError:
            continue
        assert np.isfinite(sound.samples).all()


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.wav"):
        with pytest.raises(AudioDecodeError):
            read(path)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioDecodeError, match=r"empty|no audio"):
        read(wav_header(tmp_path / "a.wav", data=b""))


def test_a_decoder_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = tmp_path / "ffmpeg"
    stuck.write_text("#!/bin/sh\nexec sleep 1000\n")
    stuck.chmod(0o755)
    monkeypatch.setattr(ffmpeg_module, "ffmpeg_path", lambda: str(stuck))
    monkeypatch.setattr(ffmpeg_module, "WALL_CLOCK_SECONDS", 0.2)
    before = set(threading.enumerate())
    with pytest.raises(AudioDecodeError, match="too much time"):
        read(stuck)
    # The thread that stopped it may need a moment to end itself.
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_a_decoder_that_talks_without_end_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talking = tmp_path / "ffmpeg"
    talking.write_text("#!/bin/sh\nhead -c 50000000 /dev/zero | tr '\\0' x >&2\necho >&2\necho the end >&2\nexit 1\n")
    talking.chmod(0o755)
    monkeypatch.setattr(ffmpeg_module, "ffmpeg_path", lambda: str(talking))
    with pytest.raises(AudioDecodeError) as raised:
        read(talking)
    assert "the end" in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_the_decoder_runs_under_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = tmp_path / "ffmpeg"
    # One line: the last line of the messages is what the error carries.
    limits_in_one_line = "tr '\\n' '|' < /proc/self/limits >&2"
    greedy.write_text(f"#!/bin/sh\nsleep 0.2\n(echo big > {tmp_path}/written)\n{limits_in_one_line}\nexit 1\n")
    greedy.chmod(0o755)
    monkeypatch.setattr(ffmpeg_module, "ffmpeg_path", lambda: str(greedy))
    with pytest.raises(AudioDecodeError) as raised:
        read(greedy)
    limits = {line[:26].strip(): line[26:].split()[:1] for line in str(raised.value).split("|")}
    assert limits["Max cpu time"] == [str(ffmpeg_module.CPU_SECONDS)]
    assert limits["Max address space"] == [str(ffmpeg_module.MEMORY_BYTES)]
    assert limits["Max file size"] == ["0"]
    assert (tmp_path / "written").read_text() == ""


@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_keeps_length_and_sound_at_320_kbit(channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    sound = waveform(*[sine(440, 3), sine(660, 3)][:channels])
    write_audio(path, sound)
    assert path.stat().st_size == pytest.approx(320_000 / 8 * 3, rel=0.05)
    back = read(path, channels=channels)
    assert back.samples.shape == sound.samples.shape
    np.testing.assert_allclose(back.samples[:, 2000:-2000], sound.samples[:, 2000:-2000], atol=0.01)


def test_a_failing_encoder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = tmp_path / "ffmpeg"
    failing.write_text("#!/bin/sh\ncat > /dev/null\necho no space left >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(ffmpeg_module, "ffmpeg_path", lambda: str(failing))
    with pytest.raises(AudioEncodeError, match="no space left"):
        encode_mp3(waveform(sine(440, 0.1)))


def test_whoever_stops_reading_has_ffmpeg_killed(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    write_audio(path, waveform(np.zeros(60 * RATE)))
    killed = []

    @contextmanager
    def at_once(kill: Callable[[], object]) -> Iterator[None]:
        kill()
        killed.append(1)
        yield

    with pytest.raises(AudioDecodeError):
        read_audio(path, sample_rate=RATE, channels=1, max_seconds=100, stoppable=at_once)
    assert len(killed) == 1
