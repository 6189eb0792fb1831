"""A piece of music on order: what is asked for, and the handle on its making."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from musicgen_core.audio_file import Waveform
from musicgen_core.codec import Codec
from musicgen_core.long import AnyGeneration
from musicgen_core.params import SamplingParams

PROGRESS_SECONDS = 0.1
"""How often progress is reported."""


@dataclass(frozen=True)
class GenerationInput:
    """One piece of music to make."""

    prompt: str | None
    """A description; None or "": unconditional."""
    duration: float
    """Seconds of new music."""
    seed: int
    """The same seed gives the same music: 0 to 2**32 - 1."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    melody: Waveform | None = None
    """Its tune is followed; at the model's sample rate."""
    continuation: Waveform | None = None
    """It is continued; at the model's sample rate."""


class Job:
    """A submitted input."""

    def __init__(self, generation: AnyGeneration, codec: Codec) -> None:
        self._generation = generation
        self._codec = codec

    @property
    def total_steps(self) -> int:
        """Decoding steps that the whole job takes."""
        return self._generation.total_steps

    @property
    def completed_steps(self) -> int:
        """Decoding steps done."""
        return self._generation.completed_steps

    @property
    def started(self) -> bool:
        """Whether it has left the queue."""
        return self._generation.started

    @property
    def started_at(self) -> float | None:
        """When its first step began, on the clock of `time.monotonic`; None while it waits."""
        return self._generation.started_at

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until its tokens are there, or it has failed or been cancelled; False when `timeout` seconds passed."""
        return self._generation.wait(timeout)

    def cancel(self) -> None:
        """End it before its next step; `audio` then raises GenerationCancelled."""
        self._generation.cancel()

    def audio(self) -> Waveform:
        """The music, an audio prompt included, at the codec's level (not normalised); waits until it is
        there.

        Raises GenerationCancelled, or what went wrong in the engine.
        """
        samples = self._codec.decode(self._generation.codes())
        return Waveform(samples=samples.cpu().numpy(), sample_rate=self._codec.sample_rate)

    def finish(self, on_progress: Callable[[int, int], None] | None = None) -> Waveform:
        """Wait, telling `on_progress` the steps done and in all, and return `audio`; interrupted, it cancels
        the job."""
        try:
            while not self.wait(PROGRESS_SECONDS):
                if on_progress is not None:
                    on_progress(self.completed_steps, self.total_steps)
        except BaseException:
            self.cancel()
            raise
        audio = self.audio()
        if on_progress is not None:
            on_progress(self.total_steps, self.total_steps)
        return audio
