"""A worker process in which the engine alone is replaced: by one that takes a GPU's time and makes silence.

Everything else is the worker as it runs: consumer, dispatcher, leases, housekeeping, files, storage and records.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from queue import SimpleQueue

import torch

from benchmarks import gpus
from benchmarks.engine import MEDIUM
from musicgen_core import musicgen
from musicgen_core.abilities import Abilities
from musicgen_core.audio.loudness import import_filters
from musicgen_core.engine.engine import EngineStatistics
from musicgen_core.engine.generation import Generation
from musicgen_core.engine.measures import EngineMeasures
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import GenerationCancelled
from musicgen_core.executor import CallerThread, Resumable, in_one_stretch
from musicgen_core.generation_input import ResolvedInput
from musicgen_core.job import Job
from worker import main
from worker.generation import attempt  # noqa: F401  imported once, before the workers are forked

NAME, VERSION = "benchmarks/stand-in", "0" * 64
SLOTS = gpus.REQUESTS
SONG_SECONDS = 8
STEP_SECONDS = gpus.step_seconds(MEDIUM, SONG_SECONDS, gpus.GPUS["H100 SXM"])
"""musicgen-medium on an H100: reckoned, not measured."""
STEPS_AT_ONCE = 10
"""Steps between which it sleeps: sixteen workers that woke at each would need the cores that are measured."""
SAMPLE_RATE = 8_000
"""Less than a model's, so that the sound's level, which two cores measure for all workers, costs little."""

import_filters()


class StandIn:
    """A backend that decodes its requests together, as the engine does, and computes nothing."""

    name, trained, max_requests, diffusion = NAME, False, SLOTS, None
    abilities = Abilities(melody=False, channels=1, sample_rate=SAMPLE_RATE, frame_rate=MEDIUM.frame_rate)
    measures, busy_seconds, sampling = EngineMeasures(slots=SLOTS), 0.0, SamplingParams()

    def __init__(self) -> None:
        self.executor, self.codec, self.statistics = CallerThread(), Silence(), EngineStatistics()
        self._line: SimpleQueue[Generation | None] = SimpleQueue()
        """Requests without a slot; None is the end."""
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def checksum(self) -> str:
        return VERSION

    def submit(self, given: ResolvedInput) -> Job:
        generation = Generation(given.frames + self.abilities.delay_frames)
        self._line.put(generation)
        return Job(given, generation, self.codec, self.executor)

    def close(self) -> None:
        self._line.put(None)

    def _run(self) -> None:
        running: list[Generation] = []
        while True:
            while len(running) < SLOTS and not (running and self._line.empty()):
                generation = self._line.get()
                if generation is None:
                    return
                generation.started_at = time.monotonic()
                running.append(generation)
            self._step(running)
            running = [generation for generation in running if not generation.wait(0)]

    def _step(self, running: list[Generation]) -> None:
        seconds = STEPS_AT_ONCE * STEP_SECONDS
        time.sleep(seconds)
        for generation in running:
            generation.completed_steps = min(generation.completed_steps + STEPS_AT_ONCE, generation.total_steps)
            if generation.cancelled:
                generation.fail(GenerationCancelled("the generation was cancelled"))
            elif generation.completed_steps == generation.total_steps:
                frames = generation.total_steps - self.abilities.delay_frames
                generation.complete(torch.zeros(MEDIUM.codebooks, frames, dtype=torch.int64))
        done = self.statistics
        self.statistics = EngineStatistics(
            done.steps + STEPS_AT_ONCE, done.request_steps + STEPS_AT_ONCE * len(running), done.seconds + seconds
        )


class Silence:
    """A codec that makes silence of all tokens, in no time."""

    sample_rate, channels = SAMPLE_RATE, 1
    hop = SAMPLE_RATE // MEDIUM.frame_rate

    def decoding(self, codes: torch.Tensor) -> Resumable[torch.Tensor]:
        return in_one_stretch(lambda: torch.zeros(self.channels, codes.shape[1] * self.hop))


def run(environment: Mapping[str, str]) -> None:
    """Run a worker with these settings until SIGTERM."""
    os.environ.update(environment)
    musicgen.load_backend = lambda *_, **__: StandIn()  # type: ignore[attr-defined,assignment]
    main.run()
