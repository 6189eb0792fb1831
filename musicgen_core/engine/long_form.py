"""Music longer than the model's window: generated window by window, each continuing what is there.

This is the algorithm of audiocraft's extended generation (`MusicGen._generate_tokens` in audiocraft 1.3): windows begin
every `stride` frames, and the part of a window that is known already is the prompt of its request. So every window is
an ordinary request to the engine: slots keep their size, and between two windows others get their turn.

One random stream serves the whole: the first window draws its first numbers from the seed, each further one goes on
where the last one stopped. What the first window makes is therefore what a piece that ends there would be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from musicgen_core.engine.engine import Engine
from musicgen_core.engine.generation import Generation
from musicgen_core.engine.request import Request
from musicgen_core.executor import Resumable


@dataclass(frozen=True)
class Window:
    """Frames `start` to `end` of a piece; those before `known` are there when it begins."""

    start: int
    known: int
    end: int

    @property
    def frames(self) -> int:
        """Frames to generate."""
        return self.end - self.known


def plan_windows(given: int, total: int, *, window: int, stride: int) -> list[Window]:
    """The windows that generate frames `given` to `total`.

    `window`, `stride`: frames, `0 < stride < window`. A prompt that fills the first windows skips them, where
    audiocraft refuses it.
    """
    windows, known = [], given
    for start in range(0, total, stride):
        end = min(start + window, total)
        if end > known:
            windows.append(Window(start, known, end))
            known = end
    return windows


class LongFormGeneration:
    """A piece of several windows that is used like a `Generation`. Safe to use from any thread."""

    live = False
    """Nobody hears it before it is done."""

    def __init__(
        self,
        engine: Engine,
        windows: Sequence[Window],
        encoding: Resumable[Request],
        chroma: Callable[[Window], Tensor | None],
    ) -> None:
        """Submit the first window, and the others one after the other from a thread of its own.

        `encoding`: gives the request of the whole piece. `chroma`: what a window hears of the melody, `[frames, bins]`.
        The engine's thread runs both, `chroma` when a window's turn comes. Raises what has ended the engine.
        """
        self.cancelled = False
        self.total_steps = sum(engine.steps(window.frames) for window in windows)
        self._engine = engine
        self._windows = windows
        self._encoding = encoding
        self._chroma = chroma
        self._whole: Request | None = None
        self._codes: Tensor | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()  # guards what a change of windows changes, and `cancelled`
        self._steps_before = 0
        self._first = self._current = engine.submit_encoding(windows[0].frames, self._encode_first())
        threading.Thread(target=self._run, name="musicgen-long", daemon=True).start()

    @property
    def completed_steps(self) -> int:
        """Steps done, over all windows."""
        with self._lock:
            return self._steps_before + self._current.completed_steps

    def snapshots(self) -> Iterator[Tensor]:
        """Nothing: it is not shown before it is done."""
        return iter(())

    @property
    def encoding_seconds(self) -> float:
        """How long the first window's conditions took to encode."""
        return self._first.encoding_seconds

    @property
    def encoded_at(self) -> float | None:
        """When they were encoded, on the clock of `time.monotonic`; None before."""
        return self._first.encoded_at

    @property
    def started_at(self) -> float | None:
        """When the first window's first step began, on the same clock."""
        return self._first.started_at

    @property
    def finished_at(self) -> float | None:
        """When the last window's codes were there, on the same clock."""
        return self._current.finished_at if self._done.is_set() else None

    @property
    def started(self) -> bool:
        """Whether the first window's first step has begun."""
        return self._first.started

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done, failed or cancelled, at most `timeout` seconds; whether it is."""
        return self._done.wait(timeout)

    def cancel(self) -> None:
        """Stop before the next step, in whichever window that is. Too late, it changes nothing."""
        with self._lock:
            self.cancelled = True
            self._current.cancel()

    def codes(self) -> Tensor:
        """Wait for the whole piece's codes, given frames first: int64 `[codebooks, frames]` on the CPU.

        Raises GenerationCancelled, or the error that ended a window.
        """
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._codes is not None
        return self._codes

    def _run(self) -> None:
        try:
            self._collect(self._windows[0])
            for window in self._windows[1:]:
                self._enter(window)
                self._collect(window)
        except Exception as error:
            self._error = error
        finally:
            self._done.set()

    def _enter(self, window: Window) -> None:
        offset = self._steps_before + self._current.total_steps
        with self._lock:
            self._steps_before = offset
            self._current = self._engine.submit_encoding(window.frames, self._encode_next(window, offset))
            if self.cancelled:
                self._current.cancel()

    def _encode_first(self) -> Resumable[Request]:
        self._whole = yield from self._encoding
        if self._whole.prompt_codes is not None:
            self._codes = self._whole.prompt_codes.cpu()
        return (yield from self._encode_next(self._windows[0], 0))

    def _encode_next(self, window: Window, offset: int) -> Resumable[Request]:
        yield
        return self._request(window, offset=offset)

    def _request(self, window: Window, *, offset: int) -> Request:
        assert self._whole is not None
        prompt = None if self._codes is None else self._codes[:, window.start : window.known]
        conditions = replace(self._whole.conditions, chroma=self._chroma(window))
        return replace(
            self._whole, frames=window.frames, prompt_codes=prompt, conditions=conditions, stream_offset=offset
        )

    def _collect(self, window: Window) -> None:
        codes = self._current.codes()
        before = codes[:, :0] if self._codes is None else self._codes[:, : window.start]
        self._codes = torch.cat([before, codes], dim=1)


AnyGeneration = Generation | LongFormGeneration
"""A piece that is being generated, in one window or in several."""
