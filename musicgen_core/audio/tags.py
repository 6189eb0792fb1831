"""Text inside audio files: RIFF INFO and ID3 in WAV, ID3 in MP3, Vorbis comments in FLAC.

Written here and not by ffmpeg, so that the sound is encoded in the same way with any text, and none of the text stands
in a command line. What is written depends on the text alone: there is neither a date nor anything random.
"""

from __future__ import annotations

from collections.abc import Mapping

RIFF_HEADER_BYTES = 8
FLAC_MAGIC = b"fLaC"
FLAC_PADDING, FLAC_VORBIS_COMMENT = 1, 4
FLAC_LAST_BLOCK = 0x80
UTF8 = b"\x03"
"""The text encoding of an ID3v2.4 frame."""


def id3(*, software: str, comment: str, texts: Mapping[str, str]) -> bytes:
    """An ID3v2.4 tag (id3.org, 2000); `texts` become user-defined frames, a name and a value each."""
    frames = _frame(b"TSSE", UTF8 + _text(software)) + _frame(b"COMM", UTF8 + b"eng" + b"\0" + _text(comment))
    for name, value in texts.items():
        frames += _frame(b"TXXX", UTF8 + _text(name) + b"\0" + _text(value))
    return b"ID3\x04\x00\x00" + _synchsafe(len(frames)) + frames


def tag_wav(content: bytes, *, info: Mapping[str, str], tag: bytes) -> bytes:
    """A WAV file with a LIST chunk of INFO texts and an `id3 ` chunk behind its samples, which stay where they are."""
    entries = b"".join(_riff_chunk(name.encode("ascii"), _text(value) + b"\0") for name, value in info.items())
    padding = b"\0" * (len(content) % 2)
    body = content[RIFF_HEADER_BYTES:] + padding + _riff_chunk(b"LIST", b"INFO" + entries) + _riff_chunk(b"id3 ", tag)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def tag_mp3(content: bytes, *, tag: bytes) -> bytes:
    """An MP3 file that begins with an ID3 tag; `content` must have none."""
    return tag + content


def tag_flac(content: bytes, *, software: str, texts: Mapping[str, str]) -> bytes:
    """A FLAC file (RFC 9639) with these Vorbis comments instead of its own, and without padding."""
    blocks, position, is_last = [], len(FLAC_MAGIC), False
    while not is_last:
        head, size = content[position], int.from_bytes(content[position + 1 : position + 4])
        is_last, kind = bool(head & FLAC_LAST_BLOCK), head & ~FLAC_LAST_BLOCK
        if kind not in (FLAC_PADDING, FLAC_VORBIS_COMMENT):
            blocks.append(_flac_block(kind, content[position + 4 : position + 4 + size]))
        position += 4 + size
    comments = [_counted(_text(software)), len(texts).to_bytes(4, "little")]
    comments += [_counted(name.encode("ascii") + b"=" + _text(value)) for name, value in texts.items()]
    blocks.append(_flac_block(FLAC_VORBIS_COMMENT | FLAC_LAST_BLOCK, b"".join(comments)))
    return FLAC_MAGIC + b"".join(blocks) + content[position:]


def _text(value: str) -> bytes:
    """UTF-8; a NUL would end the text early, and half a surrogate pair has no UTF-8."""
    return value.replace("\0", " ").encode("utf-8", "replace")


def _frame(name: bytes, data: bytes) -> bytes:
    return name + _synchsafe(len(data)) + b"\0\0" + data


def _synchsafe(size: int) -> bytes:
    """Four bytes of seven bits, so that no part of a size looks like the beginning of an MPEG frame."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _riff_chunk(name: bytes, data: bytes) -> bytes:
    return name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)


def _flac_block(head: int, data: bytes) -> bytes:
    return bytes([head]) + len(data).to_bytes(3) + data


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data
