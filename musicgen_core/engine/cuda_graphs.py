"""Steps as CUDA graphs: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch

LEAD = 2
"""How many steps the host may be ahead of the device."""


class CudaRecorder:
    """Records and replays on one device. All graphs share a pool: they run one after the other, and keep nothing."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._lead = _Lead(device)

    def warm_up(self, step: Callable[[], None], /) -> None:
        """Carry a step out on the stream that it will be recorded on, in order with the device's other work."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def record(self, step: Callable[[], None], /) -> Callable[[], None]:
        """Record a step; waits for the device."""
        graph = torch.cuda.CUDAGraph()
        # The outer block puts the stream back even where torch's own, on an error, does not come to it. Recording is
        # of this thread alone: what another one does with the device meanwhile neither fails nor gets into the graph.
        with (
            torch.cuda.stream(self._stream),
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
        ):
            step()

        def replay() -> None:
            self._lead.wait()
            graph.replay()
            self._lead.mark()

        return replay


class _Lead:
    """Keeps the host from running far ahead of the device.

    A graph is launched in microseconds, so without this the host would queue up a whole request: whoever comes would
    stand behind it, a cancelled request would run on, and progress would be counted that has not been made. Two steps
    keep the device busy. The wait lies between steps, never in one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Blocking: the waiting thread sleeps instead of keeping a core busy.
        self._events = [torch.cuda.Event(blocking=True) for _ in range(LEAD)]  # type: ignore[no-untyped-call]
        self._next = 0

    def wait(self) -> None:
        """Wait for the step that was LEAD steps before."""
        self._events[self._next].synchronize()  # at once for one that was never recorded

    def mark(self) -> None:
        """Note that a step has been launched."""
        self._events[self._next].record(torch.cuda.current_stream(self._device))
        self._next = (self._next + 1) % LEAD
