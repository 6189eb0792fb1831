"""The engine: requests join and leave between steps, and share each step (continuous batching).

    with Engine(model, max_requests=4) as engine:  # runs its own thread
        generation = engine.submit(Request(...))
        codes = generation.codes()                 # waits; [codebooks, frames]

Without `with`, or `start`, the caller drives it: `while engine.step(): ...`.

The engine's thread is the one that computes on the device. What others want computed, it does as tasks between two
steps (`execute`), so that nobody competes with a step for the cores or the GPU. A request whose conditions are still to
be encoded is handed over whole (`submit_encoding`): its caller waits for nothing, and each stretch of encoding is a
task. What is known of a request before its first step is computed in pieces, one between two steps of the others: see
`prefill`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from musicgen_core.engine.batch_decoder import MAX_ADAPTER_RANK, AttentionKind, BatchDecoder
from musicgen_core.engine.generation import Generation
from musicgen_core.engine.measures import ADMISSION_SECONDS, BATCH_SIZES, STEP_SECONDS, Counted, EngineMeasures
from musicgen_core.engine.request import Request, check_adapter, check_request
from musicgen_core.engine.scheduler import Scheduler
from musicgen_core.errors import GenerationCancelled, StepFailed
from musicgen_core.executor import Resumable, Task
from musicgen_core.lm.delay_pattern import whole_frames
from musicgen_core.lm.transformer import LanguageModel, LanguageModelConfig

T = TypeVar("T")

logger = logging.getLogger(__name__)

LIVE_STEPS = 25
"""A generation that is followed live shows its codes this often: every half second of music."""


@dataclass(frozen=True)
class EngineStatistics:
    """What an engine has done since it was started."""

    steps: int = 0
    """Decoding steps."""
    request_steps: int = 0
    """The sum of the requests that each of these steps advanced."""
    seconds: float = 0.0
    """How long the steps took, tasks and admissions between them included."""


@dataclass(frozen=True, eq=False)
class _Admission:
    """A request in line, and the generation that it becomes."""

    request: Request
    generation: Generation


class Engine:
    """Runs up to `max_requests` requests at a time; further ones wait in line. An Executor for what others compute."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        max_requests: int,
        max_frames: int = 1500,
        max_text_tokens: int = 512,
        attention: AttentionKind | None = None,
        max_adapters: int = 0,
        max_adapter_rank: int = MAX_ADAPTER_RANK,
    ) -> None:
        """Set the memory of all slots aside.

        `max_frames`: longest result in frames, given ones included. `max_text_tokens`: longest text. `attention`: see
        `BatchDecoder`. `max_adapters`: how many are in memory together; a request whose adapter finds no place waits
        until a running one has ended. `max_adapter_rank`: the largest rank of any.
        """
        self._limits = (max_frames, max_text_tokens)
        self._adapter_limits = (max_adapters, max_adapter_rank)
        self._max_requests = max_requests
        self._decoder = BatchDecoder(
            model,
            slots=max_requests,
            max_frames=max_frames,
            max_text_tokens=max_text_tokens,
            attention=attention,
            max_adapters=max_adapters,
            max_adapter_rank=max_adapter_rank,
        )
        self._scheduler: Scheduler[_Admission] = Scheduler(max_requests)
        self._tasks: deque[Task[Any]] = deque()
        self._changed = threading.Condition()  # guards the scheduler, the tasks and _closed
        self._closed: Exception | None = None
        self._thread: threading.Thread | None = None
        self._entering: tuple[int, Resumable[None]] | None = None
        """The slot that is being filled, and what is still to be done for it. The next in line waits for its end."""
        self._together = 0
        self._uncounted = 0.0
        self._steps, self._batches = Counted(STEP_SECONDS), Counted(BATCH_SIZES)
        self._admissions, self._admission_seconds = Counted(ADMISSION_SECONDS), 0.0
        self._busy_since: float | None = None
        self.statistics = EngineStatistics()
        """Replaced, never changed; counted while the engine's own thread runs it."""

    @property
    def slot_bytes(self) -> int:
        """Memory of one slot's keys and values, bytes."""
        return self._decoder.cache.slot_bytes

    @property
    def measures(self) -> EngineMeasures:
        """What it has done, and does now; any thread may ask."""
        return EngineMeasures(
            slots=self._max_requests,
            slots_in_use=len(self._scheduler.running),
            slot_bytes=self.slot_bytes,
            waiting_tasks=len(self._tasks),
            steps=self._steps.read(),
            batches=self._batches.read(),
            admissions=self._admissions.read(),
        )

    @property
    def config(self) -> LanguageModelConfig:
        """The shape of its model."""
        return self._decoder.model.config

    @property
    def adapters_in_memory(self) -> tuple[str, ...]:
        """The digests of the adapters in memory, the least lately used first."""
        return self._decoder.adapters.held

    @property
    def waiting_tasks(self) -> int:
        """How many tasks wait for the engine's thread."""
        return len(self._tasks)

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests: it was closed, or an error has ended it."""
        return self._closed is not None

    @property
    def busy_seconds(self) -> float:
        """How long its thread has worked on the present step or task; infinite where an error has ended the engine."""
        if self._closed is not None and not isinstance(self._closed, GenerationCancelled):
            return math.inf
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def steps(self, frames: int) -> int:
        """How many steps it takes to generate so many new frames."""
        return self._decoder.steps(frames)

    def submit(self, request: Request, *, live: bool = False) -> Generation:
        """Put a request in line. Raises InvalidRequest; where the engine has ended, what ended it."""
        generation = Generation(self.steps(request.frames), live=live)
        self._put_in_line(request, generation)
        return generation

    def submit_encoding(self, frames: int, encoding: Resumable[Request], *, live: bool = False) -> Generation:
        """Have the engine's thread encode a request of so many new `frames`, and put it in line.

        Each stretch of `encoding` is a task. What it raises, or is wrong with its request, ends the generation. Raises
        what has ended the engine.
        """
        generation = Generation(self.steps(frames), live=live)

        def proceed() -> None:
            while (request := self._encode_stretch(encoding, generation)) is None:
                if self._queue(task()):
                    return
            self._put_in_line(request, generation)

        def task() -> Task[None]:
            return Task(proceed, on_error=generation.fail)

        if self._closed is not None:
            raise self._closed
        self._hand_over(task())
        return generation

    def _encode_stretch(self, encoding: Resumable[Request], generation: Generation) -> Request | None:
        """Encode until the next yield; the request, if that was the end."""
        if self._closed is not None:
            raise self._closed
        if generation.cancelled:
            raise GenerationCancelled("the generation was cancelled")
        began = time.monotonic()
        try:
            next(encoding)
        except StopIteration as ended:
            request: Request = ended.value
            generation.encoded_at = time.monotonic()
            return request
        finally:
            generation.encoding_seconds += time.monotonic() - began
        return None

    def execute(self, work: Callable[[], T], /) -> T:
        """Have the engine's thread compute something, and wait for it; it does at most one task between two steps.

        From that thread itself, or where it does not run, it is done at once.
        """
        task = Task(work)
        self._hand_over(task)
        return task.result()

    def _hand_over(self, task: Task[Any]) -> None:
        if self._thread is threading.current_thread() or not self._queue(task):
            task.carry_out()

    def _queue(self, task: Task[Any]) -> bool:
        """Leave a task to the engine's thread, if that runs."""
        with self._changed:
            # Codes that are ready can still become sound when the engine has been closed.
            queued = self._thread is not None and self._closed is None
            if queued:
                self._tasks.append(task)
                self._changed.notify()
        return queued

    def _put_in_line(self, request: Request, generation: Generation) -> None:
        check_request(request, self.config, *self._limits)
        check_adapter(request.adapter, self.config, *self._adapter_limits)
        with self._changed:
            if self._closed is not None:
                raise self._closed
            self._scheduler.submit(_Admission(request, generation))
            self._changed.notify()

    def step(self) -> bool:
        """Compute a piece of what enters, and advance every running request by one step; False where there was neither.

        An error in a step fails the requests that ran in it (with StepFailed, if there were several), an error while a
        request enters only that one; the engine goes on with the others.
        """
        self._settle_cancelled()
        entered = self._admit_piece()
        running = self._running()
        self._together = len(running)
        if not running:
            return entered
        began = time.monotonic()
        for admission in running.values():
            admission.generation.started_at = admission.generation.started_at or began
        try:
            self._decoder.step()
            self._settle_finished()
        except Exception as error:
            self._fail_running(error)
        self._steps.add(time.monotonic() - began)
        self._batches.add(len(running))
        return True

    def start(self) -> None:
        """Run steps in a thread of the engine's own, which sleeps while there is nothing to do."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="musicgen-engine", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop after the current step; running and waiting requests end with GenerationCancelled."""
        with self._changed:
            self._closed = self._closed or GenerationCancelled("the engine was closed")
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._end_all(self._closed)

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                held_up, began = bool(self._running()), time.monotonic()
                self._busy_since = began
                self._do_task()
                if not held_up:
                    began = time.monotonic()  # the task has delayed nobody's step
                self.step()
                self._count(time.monotonic() - began)
        except Exception as error:
            # Not even failing requests worked, as on a lost device: leave nobody waiting, refuse what comes.
            with self._changed:
                self._closed = error
            self._end_all(error)
            logger.exception("the engine has stopped")

    def _count(self, seconds: float) -> None:
        # A piece computed while nobody ran counts with the first step after it.
        self._uncounted = self._uncounted + seconds if self._together or self._entering else 0.0
        if not self._together:
            return
        done, seconds, self._uncounted = self.statistics, self._uncounted, 0.0
        self.statistics = EngineStatistics(done.steps + 1, done.request_steps + self._together, done.seconds + seconds)

    def _wait_for_work(self) -> bool:
        """Sleep until something runs or waits; False where the engine was closed."""
        self._busy_since = None
        with self._changed:
            self._changed.wait_for(lambda: self._closed is not None or self._tasks or not self._scheduler.idle)
            return self._closed is None

    def _do_task(self) -> None:
        with self._changed:
            task = self._tasks.popleft() if self._tasks else None
        if task is not None:
            task.carry_out()

    def _end_all(self, error: Exception) -> None:
        self._entering = None
        with self._changed:
            running = [self._scheduler.release(slot) for slot in tuple(self._scheduler.running)]
            waiting = self._scheduler.waiting
            for admission in waiting:
                self._scheduler.withdraw(admission)
            tasks, self._tasks = self._tasks, deque()
        for admission in (*running, *waiting):
            admission.generation.fail(error)
        for task in tasks:
            task.refuse(error)

    def _fail_running(self, error: Exception) -> None:
        slots = tuple(self._running())
        if len(slots) > 1:
            shared = StepFailed(f"a step of {len(slots)} requests failed: {error}")
            shared.__cause__ = error
            error = shared
        for slot in slots:
            self._release(slot).fail(error)

    def _settle_cancelled(self) -> None:
        for slot, admission in tuple(self._scheduler.running.items()):
            if admission.generation.cancelled:
                self._release(slot).fail(GenerationCancelled("the generation was cancelled"))
        with self._changed:
            cancelled = [admission for admission in self._scheduler.waiting if admission.generation.cancelled]
            for admission in cancelled:
                self._scheduler.withdraw(admission)
        for admission in cancelled:
            admission.generation.fail(GenerationCancelled("the generation was cancelled"))

    def _running(self) -> dict[int, _Admission]:
        """What a step advances, by slot: not what is still entering."""
        entering = self._entering and self._entering[0]
        return {slot: admission for slot, admission in self._scheduler.running.items() if slot != entering}

    def _admit_piece(self) -> bool:
        """Compute a piece of what enters; False where nothing does."""
        if self._entering is None:
            if (admitted := self._next_admitted()) is None:
                return False
            slot, admission = admitted
            self._entering = slot, self._decoder.admit(slot, admission.request)
            self._admission_seconds = 0.0
        slot, work = self._entering
        began = time.monotonic()
        try:
            next(work)
            self._admission_seconds += time.monotonic() - began
        except StopIteration:
            self._entering = None
            self._admissions.add(self._admission_seconds + time.monotonic() - began)
        except Exception as error:
            self._release(slot).fail(error)
        return True

    def _next_admitted(self) -> tuple[int, _Admission] | None:
        def has_room(admission: _Admission) -> bool:
            use = admission.request.adapter
            return use is None or self._decoder.adapters.has_room(use.adapter)

        with self._changed:
            return self._scheduler.admit(has_room)

    def _settle_finished(self) -> None:
        for slot, admission in self._running().items():
            generation = admission.generation
            generation.completed_steps += 1
            if generation.completed_steps == generation.total_steps:
                # Cloned outside inference mode: the caller gets an ordinary tensor.
                codes = self._decoder.codes(slot).clone()
                self._release(slot).complete(codes)
            elif generation.live and generation.completed_steps % LIVE_STEPS == 0:
                # Seldom: on a GPU reading the codes waits for the step.
                generation.show(whole_frames(self._decoder.codes(slot).clone()))

    def _release(self, slot: int) -> Generation:
        if self._entering is not None and self._entering[0] == slot:
            self._entering[1].close()
            self._entering = None
        self._decoder.release(slot)
        with self._changed:
            return self._scheduler.release(slot).generation
