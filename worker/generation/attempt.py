"""Carry out one prediction: take it, fetch its audio, generate, encode, store, and write down how it ended."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from tqdm import tqdm

from musicgen_core import (
    Adapter,
    GenerationCancelled,
    GenerationInput,
    InvalidRequest,
    Job,
    Marks,
    MusicGen,
    MusicGenError,
    SamplingParams,
    StepFailed,
    Waveform,
    encode_audio,
)
from predictions.errors import LeaseLost, StorageError, StoreUnavailable
from predictions.models.card import ModelCard
from predictions.models.inputs import Input
from predictions.observability import life
from predictions.record import commands
from predictions.record.prediction import (
    Prediction,
    Progress,
    Provenance,
    attempt_prefix,
    output_key,
    output_prefix,
)
from predictions.record.schema import Cause
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage.protocol import AudioStorage
from predictions.version import PACKAGE
from worker.generation.adapters import Adapters
from worker.generation.content_credentials import signer_of
from worker.generation.ending import finish
from worker.generation.fetches import Fetches
from worker.generation.input_audio import AudioReader, needs_audio
from worker.generation.leases import TAKE_PATIENCE_SECONDS, Lease, LeaseKeeper, Reached
from worker.generation.live_audio import LiveAudio
from worker.generation.metrics import as_delivered, made, measured_overhead, metrics
from worker.generation.storage_retries import until_storage_answers
from worker.network import outbound

logger = logging.getLogger(__name__)


class Attempt:
    """One attempt at a prediction: its lease, and what its music is made with."""

    def __init__(self, lease: Lease, card: ModelCard) -> None:
        self.prediction = lease.prediction
        self.lease = lease
        self.taken_at = time.monotonic()
        self.log = f"Using seed {lease.prediction.input.get('seed')}\n"
        """What its log says before any progress."""
        self.clip: Waveform | None = None
        """The input audio, once it has been fetched."""
        self.provenance = Provenance(card.checksum, card.code_version)
        if lease.prediction.base is not None:
            base = f"{lease.prediction.base}:{lease.prediction.base_version}"
            self.provenance = replace(self.provenance, base=base, adapter_checksum=lease.prediction.version)

    def note_audio(self, sha256: str) -> None:
        """Note what the input audio is. Raises InvalidRequest where the repeated prediction had another."""
        self.provenance = replace(self.provenance, input_audio_sha256=sha256)
        wanted = self.prediction.wanted_audio_sha256
        if wanted not in (None, sha256):
            raise InvalidRequest(
                f"input_audio is not what it was for {self.prediction.rerun_of} (SHA-256 {sha256}, then {wanted}), and "
                "this would not be the same music. To generate it all the same, send the input to POST /predictions."
            )


class Generator:
    """Carries out predictions with the one model of this process; called by many threads at once."""

    def __init__(
        self,
        model: MusicGen,
        store: PredictionStore,
        storage: AudioStorage,
        leases: LeaseKeeper,
        settings: Settings,
        card: ModelCard,
    ) -> None:
        self._model = model
        self._store = store
        self._storage = storage
        self._leases = leases
        self._settings = settings
        self._card = card
        self._signer = signer_of(settings)
        self._stopping = threading.Event()
        self._reader = AudioReader(model, storage, settings)
        self._adapters = Adapters(model, store, storage, settings.data_dir / "adapters")
        self._fetches = Fetches[Attempt](self._fetch, self._let_go, lambda: self._tell())
        self._tell: Callable[[], None] = lambda: None

    def when_changed(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever `take` may give something that was fetched meanwhile, or has a place for more."""
        self._tell = tell

    def stop_waiting(self) -> None:
        """Wait for an absent Redis no longer: the process is to end."""
        self._stopping.set()

    def stop_taking(self) -> None:
        """Take nothing more, and give back what is not being generated: another worker can have it at once."""
        self._fetches.close()

    def take(self) -> Callable[[], None] | None:
        """Take the next prediction; returns what carries it out, or None where there is none to take now.

        One with input audio is carried out once that has been fetched; until then, others are taken.
        """
        while not self._fetches.is_closed:
            if (ready := self._fetches.next_ready()) is not None:
                return partial(self._work_on, ready)
            lease = self._leases.take(no_audio=self._fetches.is_full, no_audio_of=self._fetches.full_owners())
            if lease is None:
                return None
            attempt = Attempt(lease, self._card)
            if not needs_audio(lease.prediction):
                return partial(self._work_on, attempt)
            self._fetches.begin(attempt)
        return None

    def _let_go(self, attempt: Attempt) -> None:
        """Give up an attempt whose audio has not been used."""
        if self._fetches.is_closed:
            with suppress(StoreUnavailable):  # its lease runs out, and then it is tried again
                given_back = commands.give_back(attempt.prediction.id, attempt.lease.token, suspect=False)
                self._store.run(given_back, patience=TAKE_PATIENCE_SECONDS)
        self._leases.release(attempt.lease)

    def _fetch(self, attempt: Attempt) -> bool:
        """Fetch its input audio; false where that failed and the attempt has ended."""
        return self._goes_well(attempt, self._fetch_audio)

    def _work_on(self, attempt: Attempt) -> None:
        try:
            self._goes_well(attempt, self._carry_out)
        finally:
            self._leases.release(attempt.lease)

    def _goes_well(self, attempt: Attempt, step: Callable[[Attempt], None]) -> bool:
        """Take a step of the attempt, and write down how it ended where the step fails; then, return false."""
        with life.attempt_at(attempt.prediction):
            try:
                return self._end_where_it_fails(attempt, step)
            except (LeaseLost, GenerationCancelled):
                life.stopped(attempt.prediction)
            except StoreUnavailable as error:
                # Not the prediction's fault. Its lease runs out, and then it is tried again.
                logger.error("%s could not be ended, for Redis is away: %s", attempt.prediction.id, error)
        return False

    def _end_where_it_fails(self, attempt: Attempt, step: Callable[[Attempt], None]) -> bool:
        """The same. Raises LeaseLost, GenerationCancelled, StoreUnavailable."""
        try:
            step(attempt)
            return True
        except (LeaseLost, GenerationCancelled, StoreUnavailable):
            raise
        except StepFailed as error:
            logger.error("%s is tried again, alone: %s", attempt.prediction.id, error)
            self._store.run(commands.give_back(attempt.prediction.id, attempt.lease.token, suspect=True))
        except MusicGenError as error:
            self._fail(attempt, str(error), Cause.INPUT)
        except outbound.RequestError as error:
            self._fail(attempt, str(error), Cause.INPUT_AUDIO)
        except StorageError as error:
            self._fail(attempt, str(error), Cause.STORAGE)
        except OSError as error:
            # Most likely a full disk, and the next prediction may be smaller.
            logger.exception("%s failed", attempt.prediction.id)
            text = f"The worker could not read or write a file: {error.strerror or error}."
            self._fail(attempt, text, Cause.DISK)
        except Exception:
            if self._model.busy_seconds == math.inf:
                # The engine is gone, as on a lost device. The watchdog ends this process, and another one takes over.
                raise
            logger.exception("%s failed", attempt.prediction.id)
            self._fail(attempt, "Internal error: the worker's log says which.", Cause.INTERNAL)
        return False

    def _check_version(self, prediction: Prediction) -> None:
        if prediction.served_version != self._card.version:
            asked = "which was asked for" if prediction.base is None else f"which {prediction.model} changes"
            raise InvalidRequest(
                f"Version {prediction.served_version} of the model, {asked}, is no longer served; send it again."
            )

    def _fetch_audio(self, attempt: Attempt) -> None:
        self._check_version(attempt.prediction)
        attempt.log += "Fetching input_audio\n"
        attempt.lease.follow(lambda: Reached(logs=attempt.log))
        with life.step("fetch input_audio"):
            attempt.clip = self._reader.read(attempt.lease, attempt.note_audio)

    def _carry_out(self, attempt: Attempt) -> None:
        prediction, lease = attempt.prediction, attempt.lease
        self._check_version(prediction)
        value = Input.model_validate(prediction.input)
        lease.follow(lambda: Reached(logs=attempt.log))
        adapter = self._adapters.of(lease)
        lease.check()
        job = self._model.submit(generation_input(value, attempt.clip, adapter, live=prediction.live))
        lease.follow(_Meter(job, attempt.log).read)
        lease.when_lost(job.cancel)
        live = LiveAudio(self._store, self._storage, lease) if prediction.live else None
        with life.generating(prediction, job):
            audio = job.finish(on_chunk=live)
        lease.check()
        key = output_key(prediction.id, lease.token, value.output_format.extension)
        with life.step("write file"):
            content = self._file(prediction, value, audio)
            delivered = as_delivered(content, value.output_format, audio)
        lease.check()
        content_type = value.output_format.content_type
        until_storage_answers(f"Storing {key}", lambda: self._storage.put(key, content, content_type), lease)
        stored_bytes = len(content) + (live.stored_bytes if live else 0)
        measured = metrics(prediction, job, attempt.taken_at, audio, delivered)
        self._succeed(attempt, key, measured, job.total_steps, stored_bytes)
        life.succeeded(prediction, made(prediction, job, attempt.taken_at, audio, diffusion=value.multi_band_diffusion))
        with suppress(StoreUnavailable):  # the prediction has succeeded; estimates can miss a measurement
            self._store.run(measured_overhead(prediction, value, job))

    def _file(self, prediction: Prediction, value: Input, audio: Waveform) -> bytes:
        """The output file, which says where it comes from. Raises AudioEncodeError."""
        marks = self._marks(prediction, value)
        content = encode_audio(audio, value.output_format, marks)
        return self._signer.sign(content, value.output_format, marks) if self._signer else content

    def _marks(self, prediction: Prediction, value: Input) -> Marks:
        """What the file says. Equal for a prediction and its reruns, whose files are to be equal byte by byte."""
        return Marks(
            software=f"{PACKAGE} {self._card.code_version}",
            model=prediction.model if prediction.base else self._card.name,
            model_version=prediction.version,
            seed=prediction.input["seed"],
            prediction=prediction.first_id,
            prompt=value.prompt if self._settings.mark_prompt else None,
            continues_audio=value.continuation,
        )

    def _succeed(self, attempt: Attempt, key: str, metrics: dict[str, Any], steps: int, stored_bytes: int) -> None:
        prediction_id, lease = attempt.prediction.id, attempt.lease
        succeeded = commands.succeed(
            prediction_id,
            lease.token,
            output_key=key,
            metrics=metrics,
            logs=lease.reached().logs,
            progress=Progress(steps, steps),
            provenance=attempt.provenance,
            stored_bytes=stored_bytes,
        )
        if not finish(self._store, succeeded, self._stopping):
            # Nobody will ever ask for it: the prediction was cancelled, deleted or taken over meanwhile.
            self._storage.delete_prefix(key)
            raise LeaseLost(prediction_id)
        if attempt.prediction.attempt > 1:
            self._delete_earlier_outputs(attempt)

    def _delete_earlier_outputs(self, attempt: Attempt) -> None:
        """Delete what earlier attempts stored before their workers died; housekeeping does it if this fails."""
        prediction_id, mine = attempt.prediction.id, attempt_prefix(attempt.prediction.id, attempt.lease.token)
        with suppress(StorageError):
            for item in self._storage.objects(output_prefix(prediction_id)):
                # Chunks stay: events that a client may read again name them.
                if not item.key.startswith(mine) and "/live/" not in item.key:
                    self._storage.delete_prefix(item.key)

    def _fail(self, attempt: Attempt, error: str, cause: Cause) -> None:
        prediction_id, lease = attempt.prediction.id, attempt.lease
        failed = commands.fail(
            prediction_id,
            lease.token,
            error=error,
            logs=lease.reached().logs,
            provenance=attempt.provenance,
            cause=cause,
        )
        if finish(self._store, failed, self._stopping):
            life.failed(attempt.prediction, cause, error)


def generation_input(
    value: Input, clip: Waveform | None, adapter: Adapter | None = None, *, live: bool
) -> GenerationInput:
    """What a prediction's input asks of the model; `clip`: its decoded input audio; `adapter`: its fine-tune's."""
    return GenerationInput(
        prompt=value.prompt,
        duration=value.duration,
        seed=value.seed,
        sampling=SamplingParams(
            temperature=value.temperature,
            top_k=value.top_k,
            top_p=value.top_p,
            guidance=float(value.classifier_free_guidance),
        ),
        input_audio=clip,
        continuation=value.continuation,
        continuation_mode=value.continuation_mode,
        continuation_start=value.continuation_start,
        continuation_end=value.continuation_end,
        normalization=value.normalization_strategy,
        multi_band_diffusion=value.multi_band_diffusion,
        adapter=adapter,
        adapter_strength=value.adapter_strength,
        live=live,
    )


class _Meter:
    """Progress in lines as tqdm prints them, which clients parse; a new line for about each twentieth of the steps."""

    def __init__(self, job: Job, log: str) -> None:
        """`log`: what stands before the lines."""
        self._job = job
        self._log = log
        self._began = time.monotonic()
        self._shown = -1
        self._lock = threading.Lock()

    def read(self) -> Reached:
        """How far the job is by now."""
        with self._lock:
            done, total = self._job.completed_steps, self._job.total_steps
            if self._job.started and done * 20 // total > self._shown:
                self._shown = done * 20 // total
                self._log += tqdm.format_meter(done, total, time.monotonic() - self._began, ncols=80) + "\n"
            return Reached(Progress(done, total), self._log)
