"""Audio files in and out, through ffmpeg's command line in a process of its own.

What comes in may be hostile: ffmpeg gets a file that is already here, may open nothing else, reads only audio formats
from a list, and runs under limits of CPU time, memory and wall-clock time.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from musicgen_core.errors import AudioDecodeError, AudioEncodeError

FORMATS = "wav,w64,mp3,flac,ogg,mov,mp4,m4a,aac,matroska,webm,aiff,caf,au"
MAX_CHANNELS = 16
MIN_RATE, MAX_RATE = 4_000, 384_000
WALL_CLOCK_SECONDS = 60.0
CPU_SECONDS = 60
MEMORY_BYTES = 2 * 1024**3
CHUNK_FRAMES = 65_536
MESSAGE_BYTES = 16 * 1024
TOLERANCE_SECONDS = 0.1
"""Encoders pad: a clip of exactly the allowed length comes out a little longer."""
AU_HEADER = struct.Struct(">4sIIIII")


@dataclass(frozen=True)
class Waveform:
    """Sound: float32 samples `[channels, samples]`, full scale at 1, and their rate in Hz."""

    samples: NDArray[np.float32]
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise ValueError(f"expected float32 [channels, samples], got {self.samples.dtype} {self.samples.shape}")

    @property
    def channels(self) -> int:
        """1: mono, 2: stereo."""
        return int(self.samples.shape[0])

    @property
    def duration(self) -> float:
        """Seconds."""
        return int(self.samples.shape[1]) / self.sample_rate


class _NoAudio(AudioDecodeError):
    """Nothing came out of ffmpeg; its status and messages say why."""


@cache
def ffmpeg_path() -> str:
    """The ffmpeg on PATH, else the one that imageio-ffmpeg carries."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path


def decode(path: Path, *, sample_rate: int, channels: int, max_seconds: float) -> Waveform:
    """Read a file as `channels` (1 or 2) at `sample_rate`.

    Mono is the mean of all channels; stereo is the first two, or a mono file twice. Raises AudioDecodeError for what is
    no audio, is longer than `max_seconds`, or has an unreasonable number of channels or sample rate.
    """
    _check_header(path)
    parts = []
    frames, limit = 0, round((max_seconds + TOLERANCE_SECONDS) * sample_rate)
    with _decoding(path, seconds=max_seconds + 1, ar=sample_rate) as output:
        _, file_channels = _read_header(output)
        while chunk := output.read(CHUNK_FRAMES * file_channels * 4):
            # Mixed piece by piece: sixteen channels of a long file would fill the memory.
            whole = len(chunk) // (4 * file_channels) * file_channels
            samples = np.frombuffer(chunk, ">f4", count=whole).reshape(-1, file_channels).T
            parts.append(_mix(samples, channels))
            frames += samples.shape[1]
            if frames > limit:
                raise AudioDecodeError(f"The audio is longer than {max_seconds:g} s; send a shorter file.")
    if not frames:
        raise AudioDecodeError("The audio is empty; send a file that holds sound.")
    return Waveform(np.ascontiguousarray(np.concatenate(parts, axis=1)), sample_rate)


def encode_wav(waveform: Waveform) -> bytes:
    """16-bit PCM in a WAV file; what exceeds full scale is clipped."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(waveform.channels)
        file.setsampwidth(2)
        file.setframerate(waveform.sample_rate)
        file.writeframes(_pcm16(waveform))
    return buffer.getvalue()


def decode_wav(content: bytes) -> Waveform:
    """What `encode_wav` wrote, as players read it."""
    with wave.open(io.BytesIO(content)) as file:
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return Waveform(np.ascontiguousarray(values.T / np.float32(32768)), file.getframerate())


def encode_mp3(waveform: Waveform) -> bytes:
    """MP3 at 320 kb/s. Raises AudioEncodeError where ffmpeg fails."""
    try:
        # A file, not a pipe: the exact length stands in the first frame, which ffmpeg writes last.
        with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
            target = Path(folder) / "audio.mp3"
            command = _mp3_command(waveform, target)
            done = subprocess.run(command, input=_pcm16(waveform), capture_output=True, timeout=WALL_CLOCK_SECONDS)
            if done.returncode:
                raise AudioEncodeError(f"ffmpeg could not write the mp3: {_last_line(done.stderr)}")
            return target.read_bytes()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AudioEncodeError(f"ffmpeg could not write the mp3: {error}") from error


def write(path: Path | str, waveform: Waveform) -> None:
    """Write a file; its suffix, .wav or .mp3, says in which format. Raises AudioEncodeError."""
    path = Path(path)
    encoders = {".wav": encode_wav, ".mp3": encode_mp3}
    encode = encoders.get(path.suffix.lower())
    if encode is None:
        raise AudioEncodeError(f"Cannot write {path.name}: choose a name that ends in .wav or .mp3.")
    path.write_bytes(encode(waveform))


def _mp3_command(waveform: Waveform, target: Path) -> list[str]:
    source = ffmpeg.input("pipe:0", format="s16le", ar=waveform.sample_rate, ac=waveform.channels)
    output = ffmpeg.output(source, f"file:{target}", format="mp3", acodec="libmp3lame", audio_bitrate="320k")
    command: list[str] = ffmpeg.compile(output.global_args("-hide_banner", "-loglevel", "error"), cmd=ffmpeg_path())
    return command


def _pcm16(waveform: Waveform) -> bytes:
    if not np.isfinite(waveform.samples).all():
        raise AudioEncodeError("The audio holds values that are not numbers; it cannot be written.")
    scaled = np.rint(waveform.samples.T * 32767.0)
    return bytes(np.clip(scaled, -32768, 32767).astype("<i2").tobytes())


def _mix(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if channels == 1:
        mixed = samples.mean(axis=0, keepdims=True, dtype=np.float32)
    else:
        mixed = samples[:2] if samples.shape[0] > 1 else np.repeat(samples, 2, axis=0)
    cleaned: NDArray[np.float32] = np.nan_to_num(mixed.astype(np.float32), posinf=0.0, neginf=0.0)
    return cleaned


def _check_header(path: Path) -> None:
    """Raise AudioDecodeError for a rate or channels out of bounds. Decodes a moment: there may be no ffprobe."""
    with _decoding(path, seconds=0.1) as output:
        rate, channels = _read_header(output)
        # Before all is read: at 1 Hz ffmpeg rounds a tenth of a second to no limit at all.
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
def _decoding(path: Path, *, seconds: float, **options: object) -> Iterator[IO[bytes]]:
    """Run ffmpeg on the file and yield its output, AU with big-endian float samples. Raises AudioDecodeError."""
    process = subprocess.Popen(
        _command(path, seconds, options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _limit(process.pid)
    killer = threading.Timer(WALL_CLOCK_SECONDS, process.kill)
    killer.start()
    assert process.stdout is not None
    assert process.stderr is not None
    messages, read = bytearray(), False
    # Read beside the output, so that a full pipe of messages cannot stop ffmpeg.
    reader = threading.Thread(target=_keep_end, args=(process.stderr, messages))
    reader.start()
    try:
        with suppress(_NoAudio):
            yield process.stdout
            read = True
        # Its output has ended; what hangs nevertheless is stopped by the killer.
        status = process.wait()
        reader.join()
        if status < 0:
            raise AudioDecodeError("The audio takes too much time or memory to read.")
        if status or not read:
            raise AudioDecodeError(f"The file holds no audio that can be read ({_last_line(messages)}).")
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


def _keep_end(pipe: IO[bytes], kept: bytearray) -> None:
    """Read the pipe to its end, keeping only the last of it: a hostile file can cause messages without end."""
    while chunk := pipe.read(4096):
        kept += chunk
        del kept[:-MESSAGE_BYTES]


def _command(path: Path, seconds: float, options: dict[str, object]) -> list[str]:
    source = ffmpeg.input(
        f"file:{path}", protocol_whitelist="file,pipe", format_whitelist=FORMATS, threads=1, t=f"{seconds:.3f}"
    )
    target = ffmpeg.output(
        # The first audio track alone: a film may have one a language.
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
    """Limit the running process. Not between fork and exec: code there can deadlock in a program with threads."""
    if sys.platform != "linux":
        return
    import resource

    try:
        resource.prlimit(pid, resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.prlimit(pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
    except ProcessLookupError:
        # It has ended already.
        pass


def _last_line(stderr: bytes | bytearray) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
