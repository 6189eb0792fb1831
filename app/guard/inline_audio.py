"""Audio inside a JSON body: taken out piece by piece while the body arrives, and never held as a whole.

A file of 32 MB is a data URI (RFC 2397) of 45 MB. Parsed as JSON, it would hold up everybody else, and be in memory
several times. So `AudioExtractor` follows the text of a long body just far enough to know where strings begin and end.
The first data URI is decoded into a temporary file as it comes, and a short URI with its SHA-256 takes its place. What
is left of the body is small, and is parsed as any other.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from tempfile import SpooledTemporaryFile
from urllib.parse import unquote_to_bytes

from anyio import lowlevel, to_thread
from pydantic_core import from_json

from app.files import InlineAudio
from predictions.errors import FieldError, InvalidInput

PIECE_BYTES, AUDIO_PIECE_BYTES = 4 * 1024, 32 * 1024
"""What is looked at before others get their turn: outside of audio, a piece may hold thousands of strings."""
WRITE_BYTES = 256 * 1024
IN_MEMORY_BYTES = 1024 * 1024
"""Longer audio is in a file on disk."""
HEAD_BYTES = 300
"""What a data URI may have before its data; that much of a string is looked at to see whether it is one."""

_HEAD = re.compile(rb"data:(?P<head>(?:[^,\"\\]|\\/){0,255}),", re.IGNORECASE)
# The longest piece of a string, as JSON writes it, that ends between two characters.
_PIECE = re.compile(rb'(?:[^"\\]++|\\u[0-9A-Fa-f]{4}|\\[^u])*+')


class BodyTooLarge(Exception):
    """What is left of a body without its audio exceeds the limit."""


class AudioExtractor:
    """Takes the audio out of a JSON body; `rest` is what is left."""

    def __init__(self, field: str, max_audio_bytes: int, max_rest_bytes: int) -> None:
        """`field`: the one that takes a file, for errors."""
        self.rest = bytearray()
        self._field = field
        self._max_rest_bytes = max_rest_bytes
        self._max_audio_bytes = max_audio_bytes
        self._tail = b""
        self._in_string = False
        self._decoder: DataDecoder | None = None
        self._in_audio = False

    async def feed(self, data: bytes) -> None:
        """Go on with the next piece of the body; raises BodyTooLarge, InvalidInput."""
        start = 0
        while start < len(data):
            end = start + (AUDIO_PIECE_BYTES if self._in_audio else PIECE_BYTES)
            await self._feed(data[start:end])
            await lowlevel.checkpoint()
            start = end

    async def finish(self) -> None:
        """Go on to the end of the body."""
        await self._feed(b"", is_last=True)

    async def _feed(self, data: bytes, *, is_last: bool = False) -> None:
        data = self._tail + data
        self._tail = b""
        position = 0
        while position < len(data):
            if self._in_audio:
                position = await self._audio(data, position)
            elif self._in_string:
                position = self._string(data, position)
            else:
                position = self._between(data, position, is_last=is_last)
            if position < 0:
                break
        if is_last and self._tail:
            # Cut off in the middle of an escape: the parser will say so.
            self._keep(self._tail)

    def audio(self) -> InlineAudio | None:
        """Return the audio that was found."""
        return None if self._decoder is None or self._in_audio else self._decoder.result()

    def close(self) -> None:
        """Forget the audio."""
        if self._decoder is not None:
            self._decoder.file.close()

    def _keep(self, data: bytes) -> None:
        self.rest += data
        if len(self.rest) > self._max_rest_bytes:
            raise BodyTooLarge

    def _between(self, data: bytes, position: int, *, is_last: bool) -> int:
        """Go on outside of strings, to behind the next quotation mark; -1: more data is needed first."""
        quote = data.find(b'"', position)
        if quote < 0:
            self._keep(data[position:])
            return -1
        if self._decoder is None and not is_last and len(data) - quote < HEAD_BYTES:
            self._keep(data[position:quote])
            self._tail = data[quote:]
            return -1
        self._keep(data[position : quote + 1])
        if self._decoder is None and (match := _HEAD.match(data, quote + 1)):
            head = match["head"].replace(b"\\/", b"/").decode("latin-1")
            self._decoder = DataDecoder(self._field, head, self._max_audio_bytes)
            self._in_audio = True
            return match.end()
        self._in_string = True
        return quote + 1

    def _string(self, data: bytes, position: int) -> int:
        """Go on inside a string, to behind its end; -1: it goes on."""
        end = self._piece_end(data, position)
        if end < len(data) and data[end : end + 1] == b'"':
            self._in_string = False
            end += 1
            self._keep(data[position:end])
            return end
        self._keep(data[position:end])
        self._tail = data[end:]
        return -1

    async def _audio(self, data: bytes, position: int) -> int:
        """Go on inside the data URI, to behind its end; -1: it goes on."""
        assert self._decoder is not None
        end = self._piece_end(data, position)
        await self._decoder.feed(data[position:end])
        if end < len(data) and data[end : end + 1] == b'"':
            self._in_audio = False
            self._keep(f'{await self._decoder.finish()}"'.encode())
            return end + 1
        self._tail = data[end:]
        return -1

    @staticmethod
    def _piece_end(data: bytes, position: int) -> int:
        match = _PIECE.match(data, position)
        assert match is not None
        end = match.end()
        # An escape may be cut off; a longer remainder is none that JSON knows.
        if end < len(data) and data[end : end + 1] != b'"' and len(data) - end >= 6:
            raise InvalidInput(FieldError("body", "is not valid JSON", "escape the strings as JSON prescribes"))
        return end


class DataDecoder:
    """Decodes what follows the comma of a data URI, piece by piece, into a temporary file."""

    def __init__(self, field: str, head: str, max_bytes: int) -> None:
        self.file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
        self._field = field
        self._head = head
        self._is_base64 = head.lower().endswith(";base64")
        self._max_bytes = max_bytes
        self._escape = self._quantum = b""
        self._is_padded = False
        self._unwritten: list[bytes] = []
        self._size = 0
        self._sha256 = hashlib.sha256()

    async def feed(self, piece: bytes) -> None:
        """Decode the next piece of the string, as JSON writes it; raises InvalidInput."""
        if b"\\" in piece:
            piece = self._unescape(piece)
        try:
            content = self._base64(self._unquote(piece)) if self._is_base64 else self._unquote(piece)
        except binascii.Error as error:
            raise broken_base64(self._field) from error
        if not content:
            return
        self._size += len(content)
        if self._size > self._max_bytes:
            raise InvalidInput(
                FieldError(self._field, f"holds more than {self._max_bytes} bytes", "send a shorter or smaller file")
            )
        self._sha256.update(content)
        self._unwritten.append(content)
        if sum(map(len, self._unwritten)) >= WRITE_BYTES:
            await self._write()

    async def finish(self) -> str:
        """Return the short URI that stands for the whole; raises InvalidInput where the data was cut off."""
        await self._write()
        if self._quantum:
            raise broken_base64(self._field)
        if self._escape:
            raise InvalidInput(FieldError(self._field, "is not a valid data URI", "send all of it"))
        return self.result().uri

    def result(self) -> InlineAudio:
        """Return the audio."""
        digest = self._sha256.hexdigest()
        return InlineAudio(f"data:{self._head};sha256={digest},", self._head, self.file)

    async def _write(self) -> None:
        content, self._unwritten = b"".join(self._unwritten), []
        if self._size <= IN_MEMORY_BYTES:
            self.file.write(content)
        else:
            await to_thread.run_sync(self.file.write, content)

    def _unquote(self, piece: bytes) -> bytes:
        if not self._escape and b"%" not in piece:
            return piece
        piece = self._escape + piece
        cut = piece.rfind(b"%", max(0, len(piece) - 2))
        self._escape = piece[cut:] if cut >= 0 else b""
        return unquote_to_bytes(piece[:cut] if cut >= 0 else piece)

    def _base64(self, piece: bytes) -> bytes:
        piece = self._quantum + piece
        whole = len(piece) // 4 * 4
        self._quantum = piece[whole:]
        if piece and self._is_padded:
            raise broken_base64(self._field)
        self._is_padded = piece[:whole].endswith(b"=")
        return binascii.a2b_base64(piece[:whole], strict_mode=True) if whole else b""

    def _unescape(self, piece: bytes) -> bytes:
        """Return the characters that a piece of a JSON string stands for."""
        try:
            text: str = from_json(b'"' + piece + b'"')
            return text.encode("ascii")
        except ValueError as error:
            raise InvalidInput(
                FieldError(self._field, "is not a valid data URI", "send data:audio/wav;base64,... (RFC 2397)")
            ) from error


def broken_base64(field: str) -> InvalidInput:
    """Return the error for base64 that does not decode."""
    return InvalidInput(FieldError(field, "holds broken base64", "encode the file with standard base64"))
