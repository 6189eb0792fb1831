"""Work that comes in parts, paused so that no piece of it holds up the decoding steps for long."""

from __future__ import annotations

LOADING_PIECE = 4e6
"""Numbers of an adapter that are packed or copied between two decoding steps: some 20 ms on a CPU."""


class Pieces:
    """Tells where work that comes in parts is to pause, so that no piece is larger than a bound."""

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._done = 0.0

    def full(self, work: float) -> bool:
        """Whether the next part, of so much work, belongs to a new piece. A part that is larger is a piece alone."""
        full = self._done > 0 and self._done + work > self._bound
        self._done = work if full else self._done + work
        return full
