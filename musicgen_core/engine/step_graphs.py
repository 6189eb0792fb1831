"""Each bucket's step, recorded as a graph on its first use and replayed from then on.

Launching a small model's many kernels one by one can take the host longer than the GPU takes to run them; a graph is
one launch. Knows nothing of CUDA (see `cuda_graphs`), nor of what a step computes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from musicgen_core.engine.buckets import Bucket

logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """Turns steps into graphs, all of which share one pool of memory."""

    def warm_up(self, step: Callable[[], None], /) -> None:
        """Carry a step out, for what libraries set up on first use and may not while a graph is recorded."""

    def record(self, step: Callable[[], None], /) -> Callable[[], None]:
        """Record a step without carrying it out; what is returned carries it out.

        Raises RuntimeError where that is not possible.
        """


Step = Callable[[Bucket], None]
"""A function of its bucket and of tensors that stay where they are; they hold all that it leaves behind for later."""


class StepGraphs:
    """Carries steps out, from graphs where it can. Not thread-safe.

    It is given the same step each time and keeps none: what the step belongs to holds the graphs.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Recorder | None = recorder
        self._replays: dict[Bucket, Callable[[], None]] = {}

    def prepare(self, buckets: Iterable[Bucket], step: Step) -> None:
        """Record these buckets, the largest first: the smaller ones' graphs find room in its memory.

        Each bucket's step is carried out once. To be called while no slot is in use.
        """
        for bucket in sorted(buckets, reverse=True):
            self.run(bucket, step)

    def run(self, bucket: Bucket, step: Step) -> None:
        """Carry out one step.

        A bucket's first step is its own warm-up: carried out plainly, and recorded, which computes nothing, for those
        to come. So nothing has to be saved and put back, whoever is running.
        """
        replay = self._replays.get(bucket)
        if replay is not None:
            replay()
        elif self._recorder is None:
            step(bucket)
        else:
            self._recorder.warm_up(lambda: step(bucket))
            self._record(bucket, step, self._recorder)

    def _record(self, bucket: Bucket, step: Step, recorder: Recorder) -> None:
        """Keep the bucket's graph. The first failure is the last: a device that has refused once is not asked again."""
        try:
            self._replays[bucket] = recorder.record(lambda: step(bucket))
        except RuntimeError as error:
            self._recorder = None
            logger.warning(
                "Steps for which there is no graph yet run without one, which is slower: recording %s failed: %s",
                bucket,
                str(error),  # the error itself would keep its frames, and the decoder with them, wherever logs are kept
            )
