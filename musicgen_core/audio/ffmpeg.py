"""Decodes audio files and encodes MP3 and FLAC, with ffmpeg's command line in a separate process.

Uploaded files may be hostile: ffmpeg gets one local file, may open nothing else, reads only the listed audio formats,
and runs under limits on CPU time, memory and wall-clock time.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import IO

import ffmpeg
import numpy as np

from musicgen_core.audio.waveform import Waveform, mix_channels, to_pcm16
from musicgen_core.errors import AudioDecodeError, AudioEncodeError

DEMUXERS = (
    *("wav", "w64", "mp3", "flac", "ogg", "mov", "mp4", "m4a", "aac", "matroska", "webm", "aiff", "caf", "au"),
    *("avi", "flv", "mpegts", "mpeg", "asf", "ac3", "eac3", "amr", "wv", "tta"),
)
"""Each reads the one file it is given. Those that open what a file names (hls, concat, dash, sdp, vobsub, ...) are not
among them; mov has such references too, which ffmpeg follows only where it is told to."""
FORMATS = (
    "WAV, MP3, FLAC, Ogg (Vorbis, Opus), AAC, M4A, AIFF, CAF, AU, AC-3, AMR, WavPack, TTA, WMA, or the first sound "
    "track of an MP4, MOV, 3GP, Matroska, WebM, AVI, FLV or MPEG file"
)
"""The same for people."""
MAX_CHANNELS = 16
MIN_RATE, MAX_RATE = 4_000, 384_000
WALL_CLOCK_SECONDS = 60.0
CPU_SECONDS = 60
MEMORY_BYTES = 2 * 1024**3
CHUNK_FRAMES = 65_536
MESSAGE_BYTES = 16 * 1024
TOLERANCE_SECONDS = 0.1
"""Accepted beyond the longest duration: encoders pad, so a clip of exactly that length decodes to a little more."""
AU_HEADER = struct.Struct(">4sIIIII")
"""Magic, offset of the samples, their size, encoding, sample rate, channels."""

Stoppable = Callable[[Callable[[], object]], AbstractContextManager[object]]
"""Makes a block stoppable: given what ends the block's waiting at once, which another thread may then call."""


class _NoAudio(AudioDecodeError):
    """ffmpeg wrote no audio; its exit status and messages say why."""


@cache
def ffmpeg_path() -> str:
    """The ffmpeg on PATH, else the one that comes with imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path


def read_audio(
    path: Path, *, sample_rate: int, channels: int, max_seconds: float, stoppable: Stoppable = nullcontext
) -> Waveform:
    """Read a file as `channels` (1 or 2, see `mix_channels`) at `sample_rate` Hz.

    Raises AudioDecodeError where the file is not audio, is longer than `max_seconds`, or has an unreasonable number of
    channels or sample rate. Whoever stops it has ffmpeg killed.
    """
    _check_header(path, stoppable)
    parts = []
    frames, limit = 0, round((max_seconds + TOLERANCE_SECONDS) * sample_rate)
    with _decoding(path, stoppable, seconds=max_seconds + 1, ar=sample_rate) as output:
        _, file_channels = _read_header(output)
        while chunk := output.read(CHUNK_FRAMES * file_channels * 4):
            # Mixed chunk by chunk: sixteen channels of a long file would fill the memory.
            whole = len(chunk) // (4 * file_channels) * file_channels
            samples = np.frombuffer(chunk, ">f4", count=whole).reshape(-1, file_channels).T
            parts.append(mix_channels(samples, channels))
            frames += samples.shape[1]
            if frames > limit:
                raise AudioDecodeError(f"The audio is longer than {max_seconds:g} s; send a shorter file.")
    if not frames:
        raise AudioDecodeError("The audio is empty; send a file that holds sound.")
    return Waveform(np.ascontiguousarray(np.concatenate(parts, axis=1)), sample_rate)


def encode_mp3(waveform: Waveform) -> bytes:
    """An MP3 file at 320 kbit/s, without tags. Raises AudioEncodeError for NaN and infinities, and if ffmpeg fails."""
    return _encode(waveform, "mp3", acodec="libmp3lame", audio_bitrate="320k", id3v2_version=0)


def encode_flac(waveform: Waveform) -> bytes:
    """A FLAC file with the 16-bit samples of `encode_wav`. Raises AudioEncodeError as `encode_mp3` does."""
    return _encode(waveform, "flac", acodec="flac")


def _encode(waveform: Waveform, output_format: str, **options: object) -> bytes:
    try:
        # A file, not a pipe: what holds the exact length comes first in the file, and ffmpeg writes it last.
        with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
            target = Path(folder) / "audio"
            command = _encoding_command(waveform, target, format=output_format, **options)
            done = subprocess.run(command, input=to_pcm16(waveform), capture_output=True, timeout=WALL_CLOCK_SECONDS)
            if done.returncode:
                raise AudioEncodeError(f"ffmpeg could not write the {output_format}: {_last_line(done.stderr)}")
            return target.read_bytes()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AudioEncodeError(f"ffmpeg could not write the {output_format}: {error}") from error


def _encoding_command(waveform: Waveform, target: Path, **options: object) -> list[str]:
    source = ffmpeg.input("pipe:0", format="s16le", ar=waveform.sample_rate, ac=waveform.channels)
    output = ffmpeg.output(source, f"file:{target}", **options)
    command: list[str] = ffmpeg.compile(output.global_args("-hide_banner", "-loglevel", "error"), cmd=ffmpeg_path())
    return command


def _check_header(path: Path, stoppable: Stoppable) -> None:
    """Raise AudioDecodeError where the sample rate or the channels are out of bounds.

    Decodes 0.1 s to learn them: ffprobe may not be installed.
    """
    with _decoding(path, stoppable, seconds=0.1) as output:
        rate, channels = _read_header(output)
        # Checked before reading on: at 1 Hz ffmpeg rounds 0.1 s to no limit at all.
        if not MIN_RATE <= rate <= MAX_RATE:
            raise AudioDecodeError(f"The audio has a sample rate of {rate} Hz; send {MIN_RATE} to {MAX_RATE} Hz.")
        if channels > MAX_CHANNELS:
            raise AudioDecodeError(f"The audio has {channels} channels; send at most {MAX_CHANNELS}.")
        output.read()


def _read_header(output: IO[bytes]) -> tuple[int, int]:
    """Sample rate and channels from the AU header that ffmpeg writes before the samples."""
    header = output.read(AU_HEADER.size)
    if len(header) < AU_HEADER.size:
        raise _NoAudio("The file holds no audio that can be read.")
    _, offset, _, _, rate, channels = AU_HEADER.unpack(header)
    output.read(offset - AU_HEADER.size)
    return rate, channels


@contextmanager
def _decoding(path: Path, stoppable: Stoppable, *, seconds: float, **options: object) -> Iterator[IO[bytes]]:
    """Run ffmpeg on the file and yield its output: AU with big-endian float32 samples. Raises AudioDecodeError."""
    process = subprocess.Popen(
        _command(path, seconds, options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _limit(process.pid)
    killer = threading.Timer(WALL_CLOCK_SECONDS, process.kill)
    killer.start()
    assert process.stdout is not None
    assert process.stderr is not None
    messages, read = bytearray(), False
    # Read in a thread, so that a full pipe of messages cannot block ffmpeg.
    reader = threading.Thread(target=_keep_end, args=(process.stderr, messages))
    reader.start()
    try:
        with stoppable(process.kill):
            with suppress(_NoAudio):
                yield process.stdout
                read = True
            # The output has ended; if the process hangs all the same, the timer kills it.
            status = process.wait()
        reader.join()
        if status < 0:
            raise AudioDecodeError("The audio takes too much time or memory to read.")
        if status or not read:
            raise AudioDecodeError(
                f"The file holds no audio that can be read ({_last_line(messages)}). Send {FORMATS}."
            )
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


def _keep_end(pipe: IO[bytes], kept: bytearray) -> None:
    """Read the pipe to its end and keep only the last part: a hostile file can cause endless messages."""
    while chunk := pipe.read(4096):
        kept += chunk
        del kept[:-MESSAGE_BYTES]


def _command(path: Path, seconds: float, options: dict[str, object]) -> list[str]:
    source = ffmpeg.input(
        f"file:{path}",
        protocol_whitelist="file,pipe",
        format_whitelist=",".join(DEMUXERS),
        threads=1,
        t=f"{seconds:.3f}",
    )
    target = ffmpeg.output(
        # The first audio track only: a film may have one for each language.
        source["a:0"],
        "pipe:1",
        format="au",
        acodec="pcm_f32be",
        vn=None,
        sn=None,
        dn=None,
        map_metadata=-1,
        **options,
    )
    command: list[str] = ffmpeg.compile(
        target.global_args("-hide_banner", "-nostdin", "-loglevel", "error"), cmd=ffmpeg_path()
    )
    return command


def _limit(pid: int) -> None:
    """Limit the running process. A preexec_fn would run after fork, where a program with threads can deadlock."""
    if sys.platform != "linux":
        return
    import resource

    try:
        resource.prlimit(pid, resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.prlimit(pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
    except ProcessLookupError:
        pass  # it has ended already


def _last_line(stderr: bytes | bytearray) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
