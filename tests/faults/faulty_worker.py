"""A generating worker in which some prompts do what a bad model, driver or disk can do to a process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from musicgen_core.engine.batch_decoder import BatchDecoder
from worker import main
from worker.generation import attempt

POISON, HANG, BREAK = "poison", "hang", "break"
"""Prompts: the process dies a moment after it has begun; its engine does not come back; a shared step fails."""

_generation_input = attempt.generation_input
_step = BatchDecoder.step
_trouble: list[str] = []


def generation_input(value, clip, adapter, *, live):  # type: ignore[no-untyped-def]
    """Begin as usual, and arrange for the trouble."""
    if value.prompt == POISON:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    elif value.prompt in (HANG, BREAK):
        threading.Timer(0.5, _trouble.append, (value.prompt,)).start()
    return _generation_input(value, clip, adapter, live=live)


def step(self: BatchDecoder) -> None:
    """A decoding step, with the trouble that waits."""
    if _trouble:
        if _trouble.pop() == HANG:
            time.sleep(3600)
        raise RuntimeError("a step that fails")
    _step(self)


if __name__ == "__main__":
    attempt.generation_input = generation_input
    BatchDecoder.step = step  # type: ignore[method-assign]
    main.ENGINE_STUCK_SECONDS = 2.0
    sys.exit(main.run())
