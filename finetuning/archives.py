"""Unpacks zip, tar and tar.gz archives that may be hostile.

Nothing is written under a name that an archive chose: a member goes to a numbered file, and its name stays a string. So
no name leads out of the folder, hides a file or meets another. Links, devices and nested archives are left out. What is
read is counted as it comes out of the decompression, never by what a header declares.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from finetuning.errors import ArchiveError

AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".w64", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".mov", ".aac", ".aif", ".aiff"),
        *(".aifc", ".caf", ".au", ".wma", ".mka", ".webm", ".ac3", ".amr", ".wv", ".tta"),
    )
)
CAPTION_SUFFIXES = frozenset((".txt", ".json", ".jsonl", ".csv"))
ARCHIVE_SUFFIXES = frozenset((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"))
JUNK = frozenset(("__MACOSX", "Thumbs.db", "desktop.ini"))
"""What operating systems put into archives; names that begin with a dot are left out as well."""
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ZIP_ENCRYPTED, ZIP_UTF8 = 0x1, 0x800
"""Flags of a zip's member."""
CHUNK_BYTES = 1 << 16
HEADER_BYTES = 1 << 20
"""The most that is read to learn of a tar's next member; names and sparse maps come from the archive's maker too."""
DIRECTORY_BYTES = 1 << 24
"""The largest directory of a zip, which is read at once."""
UNSUSPICIOUS_BYTES = 1 << 26
"""So much may come out of any archive, however small: silence in a WAV file compresses as well as a bomb."""
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, struct.error),
    *(EOFError, NotImplementedError, RecursionError, ValueError),
)
"""What the standard library raises for broken archives."""


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold; beyond it, ArchiveError."""

    entries: int = 10_000
    """Members of any kind."""
    member_bytes: int = 1 << 30
    """Unpacked size of a member."""
    total_bytes: int = 16 << 30
    """Unpacked size of all."""
    ratio: int = 100
    """Unpacked size of all, relative to the archive's, once it exceeds `UNSUSPICIOUS_BYTES`."""
    caption_bytes: int = 1 << 22
    """Unpacked size of a file with captions."""


DEFAULT_LIMITS = ArchiveLimits()


class Member(NamedTuple):
    """A file of an archive."""

    name: str
    """As the archive has it, in Unicode's composed form; `/` separates folders."""
    path: Path
    """Where its content is."""

    @property
    def suffix(self) -> str:
        """The name's ending in lower case, such as ".wav"."""
        return PurePosixPath(self.name).suffix.lower()


class Dropped(NamedTuple):
    """What was left out, and why."""

    name: str
    reason: str


@dataclass
class Contents:
    """What came out of an archive, in the archive's order."""

    audio: list[Member]
    captions: list[Member]
    dropped: list[Dropped]


def unpack(archive: Path, folder: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> Contents:
    """Unpack the audio and the captions of a zip, tar or tar.gz into numbered files in an existing, empty folder.

    The archive's kind is told by its content. Any other file is taken as one piece of audio, and left where it is.
    Raises ArchiveError where the archive is broken, encrypted, or beyond a limit; OSError where it cannot be read or
    the folder not written.
    """
    with archive.open("rb") as opened:
        beginning = opened.read(512)
    unpacking = _Unpacking(folder, limits, archive.stat().st_size)
    try:
        if beginning.startswith((b"PK\3\4", b"PK\5\6")):
            unpacking.unpack_zip(archive)
        elif beginning.startswith(b"\x1f\x8b"):
            with gzip.open(archive) as file:
                unpacking.unpack_tar(file)
        elif beginning[257:262] == b"ustar":
            with archive.open("rb") as file:
                unpacking.unpack_tar(file)
        else:
            return Contents([Member(archive.name, archive)], [], [])
    except BROKEN as error:
        raise ArchiveError(f"The archive is broken: {error}. Pack it again as zip or tar.gz.") from error
    return unpacking.contents


class _Unpacking:
    """One archive on its way out."""

    def __init__(self, folder: Path, limits: ArchiveLimits, archive_bytes: int) -> None:
        self.contents = Contents([], [], [])
        self._folder = folder
        self._limits = limits
        self._budget = min(limits.total_bytes, max(UNSUSPICIOUS_BYTES, limits.ratio * archive_bytes))
        self._entries = 0

    def unpack_zip(self, path: Path) -> None:
        with _LimitedReads(path.open("rb", buffering=0)) as file, zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                self._count_entry()
                name = _zip_name(info)
                kind = stat.S_IFMT(info.external_attr >> 16)
                if info.is_dir():
                    continue
                if info.flag_bits & ZIP_ENCRYPTED:
                    raise ArchiveError("The zip is encrypted; pack it again without a password.")
                if info.compress_type not in ZIP_METHODS:
                    raise ArchiveError(
                        f"The zip's {_shown(name)} is compressed in an unusual way; pack it again as zip or tar.gz."
                    )
                if kind not in (0, stat.S_IFREG):
                    self._drop(name, "a link or a device, not a file")
                elif (reason := _reason_to_drop(name)) is not None:
                    self._drop(name, reason)
                else:
                    with archive.open(info) as content:
                        self._write(name, content)

    def unpack_tar(self, decompressed: io.BufferedIOBase) -> None:
        stream = _Metered(decompressed, self._spend)
        stream.allow(HEADER_BYTES)
        # "r|": read from front to end, as a pipe is; nothing is sought.
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            while (info := archive.next()) is not None:
                self._count_entry()
                self._take(archive, info, stream)
        # A tar ends before its file does; gzip's checksum stands at the file's end.
        stream.allow(self._budget + CHUNK_BYTES)
        while stream.read(CHUNK_BYTES):
            pass

    def _take(self, archive: tarfile.TarFile, info: tarfile.TarInfo, stream: _Metered) -> None:
        """Take a tar's member, or leave it out; the stream may then be read up to the next one."""
        name = unicodedata.normalize("NFC", info.name)
        if info.issparse():
            raise ArchiveError(f"The tar's {_shown(name)} is a sparse file; pack it again without --sparse.")
        stream.allow(HEADER_BYTES + info.size)
        if info.isdir():
            return
        if not info.isreg():
            self._drop(name, "a link or a device, not a file")
        elif (reason := _reason_to_drop(name)) is not None:
            self._drop(name, reason)
        else:
            content = archive.extractfile(info)
            assert content is not None
            # What is read of it has been counted by the stream.
            self._write(name, content, counted=True)

    def _write(self, name: str, content: IO[bytes], *, counted: bool = False) -> None:
        suffix = PurePosixPath(name).suffix.lower()
        is_caption = suffix in CAPTION_SUFFIXES
        limit = self._limits.caption_bytes if is_caption else self._limits.member_bytes
        kept = self.contents.captions if is_caption else self.contents.audio
        path = self._folder / f"{len(self.contents.audio) + len(self.contents.captions):06}{suffix}"
        written = 0
        with path.open("xb") as file:
            while chunk := content.read(CHUNK_BYTES):
                if not counted:
                    self._spend(len(chunk))
                written += len(chunk)
                if written > limit:
                    raise ArchiveError(
                        f"The archive's {_shown(name)} is larger than {limit >> 20:,} MiB; leave it out or split it."
                    )
                file.write(chunk)
        kept.append(Member(name, path))

    def _drop(self, name: str, reason: str) -> None:
        self.contents.dropped.append(Dropped(name, reason))

    def _count_entry(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise ArchiveError(f"The archive holds more than {self._limits.entries:,} entries; send fewer.")

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise ArchiveError(
                f"The archive unpacks to more than {self._limits.total_bytes >> 20:,} MiB, or to more than "
                f"{self._limits.ratio} times its size; send less, or audio that is not compressed twice."
            )


class _LimitedReads(io.BufferedReader):
    """A file that is not read in larger parts than a zip's directory may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does. Raises ArchiveError where too much is asked for at once."""
        if size is not None and size > DIRECTORY_BYTES:
            raise ArchiveError("The zip's directory is too large; send fewer files.")
        return super().read(size)


class _Metered(io.RawIOBase):
    """A stream of which no more may be read than is allowed beforehand; each byte read is spent as well."""

    def __init__(self, stream: io.BufferedIOBase, spend: Callable[[int], None]) -> None:
        self._stream = stream
        self._spend = spend
        self._allowance = 0

    def allow(self, count: int) -> None:
        """Allow so many more bytes than have been read up to now."""
        self._allowance = count

    def readable(self) -> bool:
        """It is read only."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read the next bytes, as many as the buffer takes at most. Raises ArchiveError beyond what is allowed."""
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._spend(len(chunk))
        self._allowance -= len(chunk)
        if self._allowance < 0:
            raise ArchiveError("The tar's headers are too large; pack it again.")
        return len(chunk)


def _reason_to_drop(name: str) -> str | None:
    """Why a file is left out by its name; None where it is taken."""
    path = PurePosixPath(name)
    if any(part in JUNK or (part.startswith(".") and not part.startswith("..")) for part in path.parts):
        return "hidden, or put there by the operating system"
    suffix = path.suffix.lower()
    if suffix in ARCHIVE_SUFFIXES:
        return "an archive inside the archive"
    if suffix not in AUDIO_SUFFIXES | CAPTION_SUFFIXES:
        return "neither audio nor captions, by its name"
    return None


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name. Some programs write backslashes, or UTF-8 without saying so, which zipfile reads as cp437."""
    name = info.filename.replace("\\", "/")
    if not info.flag_bits & ZIP_UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return unicodedata.normalize("NFC", name)


def _shown(name: str) -> str:
    """A name for a message: quoted, and not too long."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
