"""A piece of music on order: the handle on its making."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from musicgen_core.audio.loudness import normalize
from musicgen_core.audio.waveform import Waveform
from musicgen_core.codec.streaming import StreamingDecoder
from musicgen_core.diffusion.decoder import MultiBandDiffusion
from musicgen_core.engine.long_form import AnyGeneration
from musicgen_core.errors import GenerationCancelled
from musicgen_core.executor import Executor, Resumable, run_to_end
from musicgen_core.generation_input import ResolvedInput

PROGRESS_SECONDS = 0.1
"""How often `Job.finish` tells of progress."""


class Decoder(Protocol):
    """What turns tokens into sound."""

    sample_rate: int

    def decoding(self, codes: Tensor) -> Resumable[Tensor]:
        """The waveform `[channels, samples]` of `[codebooks, frames]` tokens, in stretches."""


class Job:
    """A submitted input. Safe to use from any thread; one thread at a time calls `finish` or `audio`."""

    def __init__(
        self,
        given: ResolvedInput,
        generation: AnyGeneration,
        decoder: Decoder,
        executor: Executor,
        *,
        diffusion: MultiBandDiffusion | None = None,
        streaming: StreamingDecoder | None = None,
    ) -> None:
        """`decoder`: makes the sound, unless there is a `diffusion`. `streaming`: makes the chunks of a live input."""
        self._given = given
        self._generation = generation
        self._decoder = decoder
        self._executor = executor
        self._diffusion = diffusion
        self._diffusion_steps = 0
        self._streaming = streaming
        self._cancelled = False
        self.decoding_seconds = 0.0
        """How long making the sound of its tokens has taken; in a diffusion, waiting for other work included."""

    @property
    def seed(self) -> int:
        """The seed of its random numbers."""
        return self._given.seed

    @property
    def total_steps(self) -> int:
        """Steps of the whole job: those of decoding, then those of diffusion."""
        return self._generation.total_steps + (self._diffusion.steps if self._diffusion else 0)

    @property
    def completed_steps(self) -> int:
        """Steps done."""
        return self._generation.completed_steps + self._diffusion_steps

    @property
    def encoding_seconds(self) -> float:
        """How long its text and audio took to encode."""
        return self._generation.encoding_seconds

    @property
    def encoded_at(self) -> float | None:
        """When these were encoded, on the clock of `time.monotonic`; None before, or where the backend does not say."""
        return self._generation.encoded_at

    @property
    def started(self) -> bool:
        """Whether it has left the queue."""
        return self._generation.started

    @property
    def started_at(self) -> float | None:
        """When its first step began, on the same clock; None while it waits."""
        return self._generation.started_at

    @property
    def decoded_at(self) -> float | None:
        """When its tokens were there, on the same clock; None before."""
        return self._generation.finished_at

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until its tokens are there, or it has failed or been cancelled; False when `timeout` seconds passed."""
        return self._generation.wait(timeout)

    def cancel(self) -> None:
        """End it before its next step or stretch; what waits for it then raises GenerationCancelled."""
        self._cancelled = True
        self._generation.cancel()

    def codes(self) -> Tensor:
        """Wait for its tokens, an audio prompt's first: int64 `[codebooks, frames]` on the CPU. Raises as `finish`."""
        return self._generation.codes()

    def audio(self, on_progress: Callable[[int, int], None] | None = None) -> Waveform:
        """Wait for the music, an audio prompt included, at the codec's own level.

        `on_progress` hears of a diffusion's steps. Raises GenerationCancelled, or what went wrong in the engine.
        """
        codes = self.codes()
        if self._diffusion is not None:
            samples = self._diffuse(self._diffusion, codes, on_progress)
        else:
            samples = self._compute(self._decoder.decoding(codes))
        return self._waveform(samples)

    def finish(
        self,
        on_progress: Callable[[int, int], None] | None = None,
        on_chunk: Callable[[Waveform], None] | None = None,
    ) -> Waveform:
        """Wait for the music, an audio prompt included, at the level that was asked for; interrupted, cancel the job.

        `on_progress` gets the steps done and in all. `on_chunk` gets the sound of a live input in pieces, as soon as
        they can no longer change: put together they are `audio` up to rounding (1e-4). By MultiBand Diffusion, which
        looks at the whole, it is one piece at the end. Raises GenerationCancelled, or what went wrong in the engine.
        """
        try:
            self._watch(on_progress, on_chunk)
        except BaseException:
            self.cancel()
            raise
        audio = self.audio(on_progress)
        if on_chunk is not None and self._streaming is None:
            on_chunk(audio)
        if on_progress is not None:
            on_progress(self.total_steps, self.total_steps)
        return normalize(audio, self._given.normalization)

    def _watch(
        self, on_progress: Callable[[int, int], None] | None, on_chunk: Callable[[Waveform], None] | None
    ) -> None:
        """Wait for the tokens, telling of progress or, with each half second of music, handing out sound meanwhile."""
        tell = on_progress or (lambda *_: None)
        if on_chunk is not None and self._streaming is not None:
            for codes in self._generation.snapshots():
                self._hand_out(self._streaming, codes, on_chunk)
                tell(self.completed_steps, self.total_steps)
            self._hand_out(self._streaming, self.codes(), on_chunk, last=True)
        while not self.wait(None if on_progress is None else PROGRESS_SECONDS):
            tell(self.completed_steps, self.total_steps)

    def _hand_out(
        self, streaming: StreamingDecoder, codes: Tensor, on_chunk: Callable[[Waveform], None], *, last: bool = False
    ) -> None:
        """Decode what is new of the codes so far."""
        if codes.shape[1] == 0:
            return
        samples = self._compute(streaming.push(codes, last=last))
        if samples.numel():
            on_chunk(self._waveform(samples))

    def _compute(self, sound: Resumable[Tensor]) -> Tensor:
        """Have sound computed, in stretches between which others get their turn."""
        return run_to_end(self._timed(sound), self._executor, self._refuse_cancelled)

    def _timed(self, sound: Resumable[Tensor]) -> Resumable[Tensor]:
        """The same work, whose stretches are timed."""
        while True:
            began = time.monotonic()
            try:
                next(sound)
            except StopIteration as ended:
                result: Tensor = ended.value
                return result
            finally:
                self.decoding_seconds += time.monotonic() - began
            yield

    def _waveform(self, samples: Tensor) -> Waveform:
        return Waveform(samples=samples.cpu().numpy(), sample_rate=self._decoder.sample_rate)

    def _refuse_cancelled(self) -> None:
        if self._cancelled:
            raise GenerationCancelled("the generation was cancelled")

    def _diffuse(
        self, diffusion: MultiBandDiffusion, codes: Tensor, on_progress: Callable[[int, int], None] | None
    ) -> Tensor:
        def before_step(done: int) -> None:
            self._refuse_cancelled()
            self._diffusion_steps = done
            if on_progress is not None:
                on_progress(self.completed_steps, self.total_steps)

        began = time.monotonic()
        samples = diffusion.decode(codes, self.seed, before_step)
        self.decoding_seconds += time.monotonic() - began
        self._diffusion_steps = diffusion.steps
        return samples
