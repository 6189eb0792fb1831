"""What was encoded lately: several takes of one input differ in their seeds, not in what the encoders see.

Encoders are functions of their input alone, so what is kept has the same bits as what they would compute again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from musicgen_core.audio.waveform import Waveform
from musicgen_core.executor import Resumable

MAX_BYTES = 64 * 2**20
"""Some 40 texts of the greatest length, or 600 clips' codes."""


class RecentEncodings:
    """Keeps the encodings used last, up to a number of bytes. Not thread-safe: the engine's thread asks it."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, bytes], Tensor] = OrderedDict()
        self._bytes = 0

    def text(self, prompt: str, encode: Callable[[str], Tensor | None]) -> Tensor | None:
        """What `encode` makes of a prompt; None is not kept."""
        key = ("text", prompt.encode("utf-8", "surrogatepass"))
        if (encoded := self._find(key)) is None and (encoded := encode(prompt)) is not None:
            self._keep(key, encoded)
        return encoded

    def sound(self, kind: str, waveform: Waveform, encode: Callable[[Waveform], Tensor]) -> Tensor:
        """What `encode` makes of a waveform; `kind` tells one encoder from another."""
        key = (kind, _digest(waveform))
        if (encoded := self._find(key)) is None:
            encoded = self._keep(key, encode(waveform))
        return encoded

    def stretches(
        self, kind: str, waveform: Waveform, encode: Callable[[Waveform], Resumable[Tensor]]
    ) -> Resumable[Tensor]:
        """The same with an encoder that computes in stretches."""
        key = (kind, _digest(waveform))
        if (encoded := self._find(key)) is None:
            encoded = self._keep(key, (yield from encode(waveform)))
        return encoded

    def _find(self, key: tuple[str, bytes]) -> Tensor | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _keep(self, key: tuple[str, bytes], encoded: Tensor) -> Tensor:
        if key not in self._kept:  # an equal input may have been encoded between two stretches of this one
            self._kept[key] = encoded
            self._bytes += encoded.nbytes
        while self._bytes > self._max_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return encoded


def _digest(waveform: Waveform) -> bytes:
    digest = hashlib.blake2b(f"{waveform.sample_rate} {waveform.samples.shape}".encode())
    digest.update(waveform.samples.tobytes())
    return digest.digest()
