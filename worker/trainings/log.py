"""The log of a training: what `finetuning` says of it, and progress in lines as tqdm prints them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from predictions.record.prediction import Progress
from worker.generation.leases import Reached

SOURCE = logging.getLogger("finetuning")
TABLE = "finetuning.dataset"
"""The logger that tells of each file and each piece."""
MOST_PIECES = 200
"""How many lines tell of pieces: the whole log is written down again whenever it grows."""


class TrainingLog(logging.Handler):
    """Collects the lines; one thread trains, another reads."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._text = ""
        self._pieces = 0
        self._progress: Progress | None = None
        self._shown = -1
        self._began: tuple[int, float] | None = None
        """The step before the first one of this attempt, and when that began."""

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect what `finetuning` logs in the block, which is for the client and not for the operator's log."""
        level, propagates = SOURCE.level, SOURCE.propagate
        SOURCE.setLevel(logging.INFO)
        SOURCE.propagate = False
        SOURCE.addHandler(self)
        try:
            yield
        finally:
            SOURCE.removeHandler(self)
            SOURCE.propagate = propagates
            SOURCE.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line of `finetuning`."""
        if record.name == TABLE:
            self._pieces += 1
            if self._pieces == MOST_PIECES + 1:
                self.add("... and more files and pieces")
            if self._pieces > MOST_PIECES:
                return
        self.add(record.getMessage())

    def add(self, line: str) -> None:
        """Add a line."""
        self._text += f"{line}\n"

    def progress(self, step: int, steps: int, loss: float) -> None:
        """Tell of a step that was made; a new line for about each twentieth of the steps."""
        if self._began is None:
            self._began = step - 1, time.monotonic()
        self._progress = Progress(step, steps)
        if step * 20 // steps > self._shown:
            self._shown = step * 20 // steps
            before, began = self._began
            elapsed = time.monotonic() - began
            self.add(
                tqdm.format_meter(
                    step, steps, elapsed, ncols=80, unit="step", initial=before, postfix=f"loss {loss:.3f}"
                )
            )

    def read(self) -> Reached:
        """What has been reached by now."""
        return Reached(self._progress, self._text)
