"""A piece of music on order: what is asked for, and the handle on its making."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from musicgen_core.audio.waveform import Waveform
from musicgen_core.codec.encodec import Codec
from musicgen_core.diffusion.decoder import MultiBandDiffusion
from musicgen_core.engine.long_form import AnyGeneration
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import GenerationCancelled
from musicgen_core.executor import Run, here

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
    multi_band_diffusion: bool = False
    """Its tokens become sound by MultiBand Diffusion instead of the codec's decoder."""
    live: bool = False
    """Its sound is wanted while it is made: `Job.finish` then hands out chunks."""


class Job:
    """A submitted input."""

    def __init__(
        self,
        generation: AnyGeneration,
        codec: Codec,
        diffusion: MultiBandDiffusion | None = None,
        seed: int = 0,
        run: Run = here,
    ) -> None:
        """`diffusion`: turns the tokens into sound, with noise by the seed; None: the codec does. `run`: where."""
        self._run = run
        self._growing = codec.streaming_decoder() if generation.live and diffusion is None else None
        self._handed_out: Tensor | None = None
        self._generation = generation
        self._codec = codec
        self._diffusion = diffusion
        self._diffusion_steps = 0
        self._seed = seed
        self._cancelled = False

    @property
    def total_steps(self) -> int:
        """Steps that the whole job takes: decoding's, then diffusion's."""
        return self._generation.total_steps + (self._diffusion.steps if self._diffusion else 0)

    @property
    def completed_steps(self) -> int:
        """Steps done."""
        return self._generation.completed_steps + self._diffusion_steps

    @property
    def started(self) -> bool:
        """Whether it has left the queue."""
        return self._generation.started

    @property
    def started_at(self) -> float | None:
        """When its first step began, on the clock of `time.monotonic`; None while it waits."""
        return self._generation.started_at

    @property
    def decoded_at(self) -> float | None:
        """When its tokens were there, on the same clock; None before."""
        return self._generation.finished_at

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until its tokens are there, or it has failed or been cancelled; False when `timeout` seconds passed."""
        return self._generation.wait(timeout)

    def cancel(self) -> None:
        """End it before its next step; `audio` then raises GenerationCancelled."""
        self._cancelled = True
        self._generation.cancel()

    def audio(self, on_progress: Callable[[int, int], None] | None = None) -> Waveform:
        """The music, an audio prompt included, at the codec's level (not normalised); waits until it is
        there.

        `on_progress` is told of a diffusion's steps. Raises GenerationCancelled, or what went wrong in the engine.
        """
        codes = self._generation.codes()
        if self._diffusion is not None:
            samples = self._diffuse(self._diffusion, codes, on_progress).cpu()
        else:
            samples = self._run(lambda: self._codec.decode(codes).cpu())
        return Waveform(samples=samples.numpy(), sample_rate=self._codec.sample_rate)

    def _diffuse(
        self, diffusion: MultiBandDiffusion, codes: Tensor, on_progress: Callable[[int, int], None] | None
    ) -> Tensor:
        def before_step(done: int) -> None:
            if self._cancelled:
                raise GenerationCancelled("the generation was cancelled")
            self._diffusion_steps = done
            if on_progress is not None:
                on_progress(self.completed_steps, self.total_steps)

        samples = diffusion.decode(codes, self._seed, before_step)
        self._diffusion_steps = diffusion.steps
        return samples

    def finish(
        self,
        on_progress: Callable[[int, int], None] | None = None,
        on_chunk: Callable[[Waveform], None] | None = None,
    ) -> Waveform:
        """Wait, telling `on_progress` the steps done and in all, and return `audio`; interrupted, it cancels
        the job.

        `on_chunk` gets the sound of a live input in pieces, as soon as they can no longer change; put together they
        are `audio` up to rounding (1e-4). By MultiBand Diffusion, which looks at the whole, it is one piece at the end.
        """
        try:
            while not self.wait(PROGRESS_SECONDS):
                if on_progress is not None:
                    on_progress(self.completed_steps, self.total_steps)
                if on_chunk is not None and (codes := self._generation.codes_so_far) is not None:
                    self._hand_out(codes, on_chunk, last=False)
            if on_chunk is not None:
                self._hand_out(self._generation.codes(), on_chunk, last=True)
        except BaseException:
            self.cancel()
            raise
        audio = self.audio(on_progress)
        if on_chunk is not None and self._growing is None:
            on_chunk(audio)
        if on_progress is not None:
            on_progress(self.total_steps, self.total_steps)
        return audio

    def _hand_out(self, codes: Tensor, on_chunk: Callable[[Waveform], None], *, last: bool) -> None:
        """Decode what is new of the codes so far."""
        growing = self._growing
        if growing is None or codes is self._handed_out or codes.shape[1] == 0:
            return
        self._handed_out = codes
        samples = self._run(lambda: growing.push(codes, last=last).cpu()).numpy()
        if samples.size:
            on_chunk(Waveform(samples=samples, sample_rate=self._codec.sample_rate))
