"""What was encoded lately: several takes of one input differ in their seeds, not in what the encoders see.

Encoders are functions of their input alone, so what is kept has the same bits as what they would compute again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from musicgen_core.audio.waveform import Waveform

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
        return self._get(("text", prompt.encode("utf-8", "surrogatepass")), lambda: encode(prompt))

    def sound(self, kind: str, waveform: Waveform, encode: Callable[[Waveform], Tensor]) -> Tensor:
        """What `encode` makes of a waveform; `kind` tells one encoder from another."""
        digest = hashlib.blake2b(f"{waveform.sample_rate} {waveform.samples.shape}".encode())
        digest.update(waveform.samples.tobytes())
        encoded = self._get((kind, digest.digest()), lambda: encode(waveform))
        assert encoded is not None
        return encoded

    def _get(self, key: tuple[str, bytes], encode: Callable[[], Tensor | None]) -> Tensor | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if (encoded := encode()) is not None:
            self._kept[key] = encoded
            self._bytes += encoded.nbytes
            while self._bytes > self._max_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return encoded
