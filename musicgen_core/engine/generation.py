"""A submitted request: the handle that its submitter holds and that the engine completes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

from torch import Tensor


class Generation:
    """A submitted request: its progress, and its result when it is done. Safe to use from any thread."""

    def __init__(self, total_steps: int, *, live: bool = False) -> None:
        """`live`: whether its codes are shown while they are generated."""
        self.live = live
        self.codes_so_far: Tensor | None = None
        """The frames that are whole, int64 `[codebooks, frames]` on the CPU; replaced, never changed."""
        self.total_steps = total_steps
        self.completed_steps = 0
        self.encoding_seconds = 0.0
        """How long its conditions took to encode."""
        self.encoded_at: float | None = None
        """When they were encoded, on the clock of `time.monotonic`; None before, or where nothing had to be."""
        self.started_at: float | None = None
        """When its first step began, on the same clock; None before."""
        self.finished_at: float | None = None
        """When its codes were there, on the same clock; None before."""
        self.cancelled = False
        self._shown: SimpleQueue[Tensor | None] = SimpleQueue()
        self._done = threading.Event()
        self._codes: Tensor | None = None
        self._error: BaseException | None = None

    @property
    def started(self) -> bool:
        """Whether its first step has begun."""
        return self.started_at is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done, failed or cancelled, at most `timeout` seconds; whether it is."""
        return self._done.wait(timeout)

    def cancel(self) -> None:
        """Ask the engine to stop; it does so before its next step or piece. Too late, it changes nothing."""
        self.cancelled = True

    def codes(self) -> Tensor:
        """Wait for the codes, given frames first: int64 `[codebooks, frames]` on the CPU.

        Raises GenerationCancelled, or the error that ended the generation.
        """
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._codes is not None
        return self._codes

    def snapshots(self) -> Iterator[Tensor]:
        """Every `codes_so_far` that was shown, in order, until the generation ends; for one consumer.

        A slow consumer gets them all too, later: what it makes of them does not depend on timing.
        """
        while (codes := self._shown.get()) is not None:
            yield codes

    def show(self, codes: Tensor) -> None:
        """Show the frames that are whole by now; called by whoever generates."""
        self.codes_so_far = codes
        self._shown.put(codes)

    def complete(self, codes: Tensor) -> None:
        """End it with its codes; called by whoever generates."""
        self._codes = codes
        self.finished_at = time.monotonic()
        self._end()

    def fail(self, error: BaseException) -> None:
        """End it with an error; called by whoever generates."""
        self._error = error
        self._end()

    def _end(self) -> None:
        self._done.set()
        self._shown.put(None)
