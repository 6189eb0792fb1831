"""Archives, honest ones and hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from finetuning.archives import ArchiveLimits, Contents, unpack
from finetuning.errors import ArchiveError

SOUND = b"RIFF sound " * 100
MIB = 1 << 20


def zipped(
    path: Path, entries: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tarred(path: Path, entries: Iterable[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz", **options: object) -> Path:
    with tarfile.open(path, mode, **options) as archive:  # type: ignore[call-overload]
        for info, content in entries:
            info.size = info.size or len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def opened(archive: Path, limits: ArchiveLimits | None = None) -> Contents:
    """What comes out of an archive; nothing may appear but in the folder for it."""
    folder = archive.parent / "out"
    folder.mkdir()
    before = set(archive.parent.rglob("*"))
    contents = unpack(archive, folder, limits or ArchiveLimits())
    appeared = set(archive.parent.rglob("*")) - before
    assert appeared == {found.path for found in (*contents.audio, *contents.captions)}
    assert all(path.parent == folder and path.is_file() and not path.is_symlink() for path in appeared)
    return contents


def names(contents: Contents) -> list[str]:
    return [found.name for found in contents.audio]


def reasons(contents: Contents) -> dict[str, str]:
    return dict(contents.dropped)


FILES = [("a/one.wav", SOUND), ("a/one.txt", b"a caption"), ("a/b/two.MP3", SOUND[::-1]), ("metadata.csv", b"x")]


@pytest.mark.parametrize("kind", ["zip", "stored", "tar", "tgz"])
def test_files_come_out_as_they_went_in(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive"  # its content tells its kind, not its name
    if kind in ("zip", "stored"):
        zipped(path, FILES, zipfile.ZIP_DEFLATED if kind == "zip" else zipfile.ZIP_STORED)
    else:
        tarred(path, ((member(name), content) for name, content in FILES), "w:gz" if kind == "tgz" else "w")
    contents = opened(path)
    assert names(contents) == ["a/one.wav", "a/b/two.MP3"]
    assert [found.path.read_bytes() for found in contents.audio] == [SOUND, SOUND[::-1]]
    assert [found.name for found in contents.captions] == ["a/one.txt", "metadata.csv"]
    assert contents.captions[0].path.read_bytes() == b"a caption"
    assert not contents.dropped


@pytest.mark.parametrize("options", [[], ["--format=gnu"], ["--format=pax"], ["--format=v7"]])
def test_what_tar_itself_packs(tmp_path: Path, options: list[str]) -> None:
    long = "a long name " * 7 + ".wav" if options != ["--format=v7"] else "short.wav"
    (tmp_path / long).write_bytes(SOUND)
    subprocess.run(["tar", *options, "-czf", "archive", long], cwd=tmp_path, check=True)
    (tmp_path / long).unlink()
    assert names(opened(tmp_path / "archive")) == [long]


def test_a_single_file_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(SOUND)
    assert opened_single(tmp_path / "song.wav") == [("song.wav", tmp_path / "song.wav")]


def opened_single(path: Path) -> list[tuple[str, Path]]:
    return [(found.name, found.path) for found in unpack(path, path.parent).audio]


HOSTILE_NAMES = [
    "/etc/one.wav",
    "../../one.wav",
    "a/../../../one.wav",
    "C:\\one.wav",
    "..\\one.wav",
    "one\n\x1b[2J.wav",
]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "deep" / "archive"
    path.parent.mkdir()
    if kind == "zip":
        zipped(path, [(zipfile.ZipInfo(name), SOUND) for name in HOSTILE_NAMES])
    else:
        tarred(path, [(member(name), SOUND) for name in HOSTILE_NAMES])
    assert len(opened(path).audio) == len(HOSTILE_NAMES)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "deep"]


def test_equal_names_are_two_files(tmp_path: Path) -> None:
    path = tarred(tmp_path / "archive", [(member("one.wav"), SOUND), (member("one.wav"), b"other")])
    assert [found.path.read_bytes() for found in opened(path).audio] == [SOUND, b"other"]


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    path = tarred(
        tmp_path / "archive",
        [
            (member("soft.wav", tarfile.SYMTYPE, linkname=str(tmp_path / "secret")), b""),
            (member("hard.wav", tarfile.LNKTYPE, linkname=str(tmp_path / "secret")), b""),
            (member("soft.wav"), SOUND),  # would be written through the first
            (member("null.wav", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
            (member("disk.wav", tarfile.BLKTYPE), b""),
            (member("pipe.wav", tarfile.FIFOTYPE), b""),
            (member("folder.wav", tarfile.DIRTYPE), b""),
        ],
    )
    contents = opened(path)
    assert [found.path.read_bytes() for found in contents.audio] == [SOUND]
    assert [name for name, _ in contents.dropped] == ["soft.wav", "hard.wav", "null.wav", "disk.wav", "pipe.wav"]
    assert set(reasons(contents).values()) == {"a link or a device, not a file"}
    assert (tmp_path / "secret").read_text() == "secret"


def test_links_in_a_zip_are_left_out(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("soft.wav")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    contents = opened(zipped(tmp_path / "archive", [(link, b"/etc/passwd"), ("real.wav", SOUND)]))
    assert names(contents) == ["real.wav"]
    assert "link" in reasons(contents)["soft.wav"]


def test_what_systems_add_and_what_is_no_audio_is_left_out(tmp_path: Path) -> None:
    contents = opened(
        zipped(
            tmp_path / "archive",
            [
                ("__MACOSX/._one.wav", b"resource fork"),
                ("a/.hidden.wav", SOUND),
                (".git/one.wav", SOUND),
                ("Thumbs.db", b"x"),
                ("cover.jpg", b"x"),
                ("playlist.m3u8", b"#EXTM3U"),
                ("inner.zip", b"PK\3\4"),
                ("one.wav", SOUND),
            ],
        )
    )
    assert names(contents) == ["one.wav"]
    assert len(contents.dropped) == 7
    assert "operating system" in reasons(contents)["__MACOSX/._one.wav"]
    assert "neither audio nor captions" in reasons(contents)["cover.jpg"]
    assert "inside the archive" in reasons(contents)["inner.zip"]


def test_names_in_any_language(tmp_path: Path) -> None:
    spoken = ["übung.wav", "ピアノ.wav", "гармонь.wav"]
    assert names(opened(zipped(tmp_path / "archive", [(name, SOUND) for name in spoken]))) == spoken


def test_names_are_composed(tmp_path: Path) -> None:
    """macOS writes u and its dots as two characters."""
    assert names(opened(zipped(tmp_path / "archive", [("u\u0308bung.wav", SOUND)]))) == ["übung.wav"]


def test_utf8_that_the_zip_does_not_announce(tmp_path: Path) -> None:
    path = zipped(tmp_path / "archive", [("übung.wav", SOUND)])
    raw = bytearray(path.read_bytes())
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        flags = raw.index(magic) + at
        raw[flags : flags + 2] = struct.pack("<H", struct.unpack("<H", raw[flags : flags + 2])[0] & ~0x800)
    path.write_bytes(raw)
    assert names(opened(path)) == ["übung.wav"]


def refused(archive: Path, limits: ArchiveLimits | None = None) -> str:
    """The reason why an archive is refused; the memory that it took until then is limited."""
    folder = archive.parent / "refused"
    folder.mkdir(exist_ok=True)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError) as error:
            unpack(archive, folder, limits or ArchiveLimits())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * MIB
    return str(error.value)


ZEROS = bytes(80 * MIB)
"""More than any archive may unpack to without a look at its ratio."""


@pytest.mark.parametrize("name", ["bomb.wav", "left out.bin"])
def test_a_tar_that_is_a_bomb(tmp_path: Path, name: str) -> None:
    """What is left out has to be decompressed all the same to come to what follows."""
    path = tarred(tmp_path / "archive", [(member(name), ZEROS)])
    assert "100 times its size" in refused(path)


def test_a_zip_that_is_a_bomb(tmp_path: Path) -> None:
    assert "100 times its size" in refused(zipped(tmp_path / "archive", [("bomb.wav", ZEROS)]))


def test_a_nested_bomb_stays_closed(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", [("bomb.wav", ZEROS)])
    path = zipped(tmp_path / "archive", [("inner.zip", inner.read_bytes()), ("inner.tar.gz", gzip.compress(ZEROS))])
    contents = opened(path)
    assert not contents.audio
    assert len(contents.dropped) == 2


def test_members_that_share_their_bytes(tmp_path: Path) -> None:
    """A thousand names for one compressed run of zeros: each is small, and all are a bomb (Fifield, 2019)."""
    path = zipped(tmp_path / "archive", [("bomb.wav", bytes(MIB))])
    raw = path.read_bytes()
    directory = raw.index(b"PK\1\2")
    end = raw.index(b"PK\5\6")
    entry = raw[directory:end] * 1000
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1000, 1000, len(entry), directory, 0)
    path.write_bytes(raw[:directory] + entry + tail)
    message = refused(path)
    assert "100 times its size" in message or "Overlapped" in message


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    path = zipped(tmp_path / "archive", [("bomb.wav", ZEROS)])
    raw = bytearray(path.read_bytes())
    for magic, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        size = raw.index(magic) + at
        raw[size : size + 4] = struct.pack("<I", 1000)
    path.write_bytes(raw)
    assert "broken" in refused(path)


@pytest.mark.parametrize("declared", [1 << 40, (1 << 62)])
def test_a_tar_that_declares_more_than_it_has(tmp_path: Path, declared: int) -> None:
    info = member("huge.wav", size=declared)
    path = tmp_path / "archive"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + SOUND)
    assert "broken" in refused(path)


def test_headers_that_would_fill_the_memory(tmp_path: Path) -> None:
    """A name of 60 MB, which Python's tarfile would read at once."""
    name = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=60 * MIB)
    path = tmp_path / "archive"
    path.write_bytes(name.tobuf(tarfile.GNU_FORMAT) + b"a" * 60 * MIB + bytes(1024))
    assert "headers are too large" in refused(path)


def test_headers_upon_headers(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    header = member("pax", tarfile.XHDTYPE, size=512).tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes((header + b"9 a=bcd\n".ljust(512, b"\0")) * 1800 + bytes(1024))
    refused(path)


def test_a_directory_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * (20 * MIB // len(entry))
    path.write_bytes(b"PK\3\4" + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 9, 9, len(directory), 4, 0))
    del directory
    assert "directory is too large" in refused(path)


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    """Their zeros take no bytes in the archive."""
    with (tmp_path / "sparse.wav").open("wb") as file:
        file.truncate(1 << 40)
    for options in (["--format=gnu"], ["--format=pax"]):
        subprocess.run(["tar", *options, "-cSzf", "archive", "sparse.wav"], cwd=tmp_path, check=True)
        assert "sparse" in refused(tmp_path / "archive")


def test_too_many_entries(tmp_path: Path) -> None:
    limits = ArchiveLimits(entries=10)
    inside = [(f"{number}/", b"") for number in range(11)]
    assert "more than 10 entries" in refused(zipped(tmp_path / "a", inside), limits)
    folders = [(member(f"{number}", tarfile.DIRTYPE), b"") for number in range(11)]
    assert "more than 10 entries" in refused(tarred(tmp_path / "b", folders), limits)


def test_sizes_are_limited(tmp_path: Path) -> None:
    noise = os.urandom(3 * MIB)
    path = zipped(tmp_path / "archive", [("a.wav", noise), ("b.wav", noise)])
    assert "'a.wav' is larger than 2 MiB" in refused(path, ArchiveLimits(member_bytes=2 * MIB))
    (tmp_path / "refused" / "000000.wav").unlink()
    assert "more than 5 MiB" in refused(path, ArchiveLimits(total_bytes=5 * MIB))
    captions = zipped(tmp_path / "captions", [("metadata.jsonl", noise)])
    assert "larger than 1 MiB" in refused(captions, ArchiveLimits(caption_bytes=MIB))


def test_encrypted_and_unusual_zips_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "archive", [("a.wav", SOUND)])
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "encrypted").write_bytes(raw)
    assert "without a password" in refused(tmp_path / "encrypted")
    assert "unusual way" in refused(zipped(tmp_path / "lzma", [("a.wav", SOUND)], zipfile.ZIP_LZMA))


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_broken_archives_say_so(tmp_path: Path, kind: str) -> None:
    noise = os.urandom(100_000)
    path = tmp_path / "archive"
    if kind == "zip":
        zipped(path, [("a.wav", noise)], zipfile.ZIP_STORED)
    else:
        tarred(path, [(member("a.wav"), noise)])
    whole = path.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    assert "broken" in refused(tmp_path / "cut")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    (tmp_path / "flipped").write_bytes(flipped)
    for file in (tmp_path / "refused").iterdir():
        file.unlink()
    assert "broken" in refused(tmp_path / "flipped")
