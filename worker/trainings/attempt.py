"""Carry out one training: take it, fetch its dataset, train, store the adapter, and write down how it ended."""

from __future__ import annotations

import io
import logging
import tarfile
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from finetuning.dataset import DatasetSettings, Piece
from finetuning.errors import FineTuningCancelled, ForeignCheckpoint
from finetuning.examples import inspect
from finetuning.fine_tune import FineTuned, fine_tune
from finetuning.lora import LoraSettings
from musicgen_core import InvalidRequest, MusicGenError
from predictions.errors import LeaseLost, ModelNotFound, StorageError, StoreUnavailable
from predictions.fine_tunes import commands as fine_tunes
from predictions.fine_tunes.record import CONFIG, WEIGHTS, Version
from predictions.fine_tunes.storing import store_adapter
from predictions.models.card import ModelCard
from predictions.observability import life
from predictions.record import commands
from predictions.record.prediction import Prediction, Progress, Provenance, attempt_prefix, now, output_prefix
from predictions.record.schema import Cause
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage.protocol import AudioStorage
from predictions.trainings.inputs import TrainingInput
from predictions.trainings.representation import HeldOutLoss, Inspected, Row, Sample, Trained
from worker.generation.ending import finish
from worker.generation.input_audio import fetch
from worker.generation.leases import Lease, LeaseKeeper
from worker.generation.storage_retries import until_storage_answers
from worker.network import outbound
from worker.trainings.checkpoints import StoredCheckpoint
from worker.trainings.log import TrainingLog

logger = logging.getLogger(__name__)

DOWNLOAD_SECONDS = 1800.0
"""How long a dataset may take; a training takes longer than that."""
MOST_ROWS = 1000
"""Of an inspection's table, which is kept in the record."""
TOO_LARGE = "The worker's memory is too small for this training; send a lower batch_size."


class Attempt:
    """One attempt at a training."""

    def __init__(self, lease: Lease) -> None:
        self.training = lease.prediction
        self.lease = lease
        self.log = TrainingLog()
        self.lost = threading.Event()
        self.stored_bytes = 0
        self.version: Version | None = None
        """The version that it has added to its destination."""

    @property
    def prefix(self) -> str:
        """The prefix of what it leaves in storage."""
        return attempt_prefix(self.training.id, self.lease.token)


class Trainer:
    """Carries out trainings of one model, one at a time."""

    def __init__(
        self,
        base: Path,
        store: PredictionStore,
        storage: AudioStorage,
        leases: LeaseKeeper,
        settings: Settings,
        card: ModelCard,
    ) -> None:
        """`base`: the model's folder."""
        self._base = base
        self._store = store
        self._storage = storage
        self._leases = leases
        self._settings = settings
        self._card = card
        self._provenance = Provenance(card.checksum, card.code_version)
        self._closing, self._stopping = threading.Event(), threading.Event()

    def stop_taking(self) -> None:
        """Take nothing more, and give back what is being trained: another worker goes on from its checkpoint."""
        self._closing.set()

    def stop_waiting(self) -> None:
        """Wait for an absent Redis no longer: the process is to end."""
        self._stopping.set()

    def take(self) -> Callable[[], None] | None:
        """Take the next training; returns what carries it out, or None where there is none to take now."""
        lease = None if self._closing.is_set() else self._leases.take()
        return None if lease is None else partial(self._work_on, Attempt(lease))

    def _work_on(self, attempt: Attempt) -> None:
        training = attempt.training
        try:
            with life.attempt_at(training):
                try:
                    self._end_where_it_fails(attempt)
                except LeaseLost:
                    life.stopped(training)
                    self._clean_up(attempt)
                except StoreUnavailable as error:
                    # Not the training's fault. Its lease runs out, and then it goes on.
                    logger.error("%s could not be ended, for Redis is away: %s", training.id, error)
        finally:
            self._leases.release(attempt.lease)

    def _end_where_it_fails(self, attempt: Attempt) -> None:
        """Carry it out, and write down how it ended where it fails. Raises LeaseLost, StoreUnavailable."""
        training = attempt.training
        try:
            self._carry_out(attempt)
        except (LeaseLost, StoreUnavailable):
            raise
        except FineTuningCancelled as error:
            if attempt.lost.is_set():
                raise LeaseLost(training.id) from error
            self._store.run(commands.give_back(training.id, attempt.lease.token, suspect=False))
            life.stopped(training)
        except MusicGenError as error:
            self._fail(attempt, str(error), Cause.INPUT)
        except ModelNotFound:
            self._fail(attempt, f"The destination {training.destination} is no longer there.", Cause.INPUT)
        except outbound.RequestError as error:
            self._fail(attempt, str(error), Cause.INPUT_AUDIO)
        except StorageError as error:
            self._fail(attempt, str(error), Cause.STORAGE)
        except torch.OutOfMemoryError as error:
            logger.warning("%s failed: %s", training.id, error)
            self._fail(attempt, TOO_LARGE, Cause.INPUT)
        except OSError as error:
            logger.exception("%s failed", training.id)
            text = f"The worker could not read or write a file: {error.strerror or error}."
            self._fail(attempt, text, Cause.DISK)
        except Exception:
            logger.exception("%s failed", training.id)
            self._fail(attempt, "Internal error: the worker's log says which.", Cause.INTERNAL)

    def _carry_out(self, attempt: Attempt) -> None:
        training, lease, log = attempt.training, attempt.lease, attempt.log
        if training.version != self._card.version:
            raise InvalidRequest(
                f"Version {training.version} of the model, which was to be trained, is no longer there; send it again."
            )
        value = TrainingInput.model_validate(training.input)
        lease.follow(log.read)
        for sentence in value.ignored():
            log.add(sentence)
        with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
            dataset = Path(folder) / "dataset"
            log.add("Fetching the dataset")
            with life.step("fetch dataset"):
                fetch(
                    lease,
                    value.dataset,
                    dataset,
                    self._storage,
                    self._settings,
                    max_bytes=self._settings.max_dataset_bytes,
                    timeout_seconds=DOWNLOAD_SECONDS,
                )
            lease.when_lost(attempt.lost.set)
            with log.collecting():
                (self._inspect if value.inspect else self._train)(attempt, value, dataset)

    def _is_to_stop(self, attempt: Attempt) -> bool:
        return attempt.lost.is_set() or self._closing.is_set()

    def _inspect(self, attempt: Attempt, value: TrainingInput, dataset: Path) -> None:
        table = inspect(dataset, self._base, _data(value), should_stop=lambda: self._is_to_stop(attempt))
        used = [piece for piece in table if piece.dropped_reason is None]
        found = Inspected(
            pieces=len(used),
            seconds=round(sum(piece.seconds for piece in used), 3),
            dropped=len(table) - len(used),
            table=[_row(piece) for piece in table[:MOST_ROWS]],
        )
        self._succeed(attempt, found.model_dump(), {}, Progress(1, 1))

    def _train(self, attempt: Attempt, value: TrainingInput, dataset: Path) -> None:
        checkpoint = StoredCheckpoint(self._storage, attempt.lease, dataset.with_name("checkpoint"))
        # A training that was taken once need not have come to a checkpoint.
        if attempt.training.attempt > 1 and checkpoint.fetch():
            attempt.log.add("Going on from the checkpoint of an earlier attempt")
        try:
            tuned = self._fine_tune(attempt, value, dataset, checkpoint)
        except ForeignCheckpoint:
            attempt.log.add("The checkpoint does not fit the dataset as it is now; beginning anew")
            checkpoint.forget()
            tuned = self._fine_tune(attempt, value, dataset, checkpoint)
        except FineTuningCancelled:
            checkpoint.store()
            raise
        output = self._store_result(attempt, tuned)
        steps = tuned.measurements[-1].step
        measured = {"steps": steps, "best_step": tuned.best.step}
        self._succeed(attempt, output.model_dump(), measured, Progress(steps, steps))

    def _fine_tune(
        self, attempt: Attempt, value: TrainingInput, dataset: Path, checkpoint: StoredCheckpoint
    ) -> FineTuned:
        return fine_tune(
            dataset,
            self._base,
            dataset.with_name("adapter"),
            data=_data(value),
            settings=lora_settings(value),
            device=self._settings.device,
            checkpoint=dataset.with_name("checkpoint"),
            on_checkpoint=checkpoint.written,
            base_name=self._card.name,
            sample_seconds=value.sample_seconds,
            progress=attempt.log.progress,
            should_stop=lambda: self._is_to_stop(attempt),
        )

    def _store_result(self, attempt: Attempt, tuned: FineTuned) -> Trained:
        """Store the weights and the samples, then add the version. Raises StorageError, ModelNotFound, LeaseLost."""
        training, lease = attempt.training, attempt.lease
        samples = []
        for caption, before, after in tuned.samples:
            keys = [self._put(attempt, path.name, path.read_bytes(), "audio/wav") for path in (before, after)]
            samples.append(Sample(caption=caption, before=keys[0], after=keys[1]))
        weights = self._put(attempt, "adapter.tar", _packed(tuned.folder), "application/x-tar")
        assert training.destination is not None  # the API refuses trainings without one
        lease.check()
        store = partial(
            store_adapter,
            self._store,
            self._storage,
            training.destination,
            training.owner,
            tuned.folder,
            self._card.name,
            self._card.version,
            training.id,
        )
        attempt.version = until_storage_answers("Storing the adapter", store, lease)
        return Trained(
            version=f"{training.destination}:{attempt.version.id}",
            weights=weights,
            held_out_loss=HeldOutLoss(before=tuned.measurements[0].held_out, after=tuned.best.held_out),
            samples=samples,
            pieces=sum(piece.dropped_reason is None for piece in tuned.table),
            dropped=sum(piece.dropped_reason is not None for piece in tuned.table),
        )

    def _put(self, attempt: Attempt, name: str, content: bytes, content_type: str) -> str:
        """Store something that the training leaves; returns its key."""
        key = f"{attempt.prefix}{name}"
        attempt.lease.check()
        put = partial(self._storage.put, key, content, content_type)
        until_storage_answers(f"Storing {key}", put, attempt.lease)
        attempt.stored_bytes += len(content)
        return key

    def _succeed(
        self, attempt: Attempt, output: Mapping[str, Any], measured: Mapping[str, Any], progress: Progress
    ) -> None:
        training = attempt.training
        seconds = round((now() - (training.started_at or now())).total_seconds(), 3)
        succeeded = commands.succeed(
            training.id,
            attempt.lease.token,
            output=output,
            metrics={"predict_time": seconds, "attempt": training.attempt, **measured},
            logs=attempt.lease.reached().logs,
            progress=progress,
            provenance=self._provenance,
            stored_bytes=attempt.stored_bytes,
        )
        if not finish(self._store, succeeded, self._stopping):
            raise LeaseLost(training.id)
        life.trained(training, seconds)
        self._delete_all_but(training, attempt.prefix)

    def _fail(self, attempt: Attempt, error: str, cause: Cause) -> None:
        training, token = attempt.training, attempt.lease.token
        logs = attempt.lease.reached().logs
        failed = commands.fail(training.id, token, error=error, logs=logs, provenance=self._provenance, cause=cause)
        if finish(self._store, failed, self._stopping):
            life.failed(training, cause, error)
            self._delete_all_but(training)

    def _clean_up(self, attempt: Attempt) -> None:
        """Delete what a training that was cancelled or deleted has left; nothing where another attempt has taken it."""
        training = attempt.training
        with suppress(StoreUnavailable):  # then the objects are left over
            [wanted] = self._store.run(commands.wanted([training.id]))
            if wanted not in ("", attempt.lease.token):
                return
            self._delete_all_but(training)
            if (version := attempt.version) is not None and training.destination is not None:
                remove = fine_tunes.delete_version(training.destination, training.owner, version.id)
                if self._store.run(remove):
                    with suppress(StorageError):
                        self._storage.delete_prefix(version.prefix)

    def _delete_all_but(self, training: Prediction, kept: str | None = None) -> None:
        """Delete a training's checkpoint and what earlier attempts stored; housekeeping does it if this fails."""
        with suppress(StorageError):
            for item in self._storage.objects(output_prefix(training.id)):
                if kept is None or not item.key.startswith(kept):
                    self._storage.delete_prefix(item.key)


def lora_settings(value: TrainingInput) -> LoraSettings:
    """How the adapter is trained: the settings that the input names, which has their names."""
    named = (field.name for field in fields(LoraSettings) if field.name in TrainingInput.model_fields)
    return LoraSettings(**{name: getattr(value, name) for name in named})


def _data(value: TrainingInput) -> DatasetSettings:
    return DatasetSettings(value.description, value.tempo_and_key, value.remove_vocals)


def _row(piece: Piece) -> Row:
    return Row.model_validate(piece)


def _packed(folder: Path) -> bytes:
    """A tar of an adapter and the record of its training."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in (CONFIG, WEIGHTS, "training.json"):
            tar.add(folder / name, name)
    return packed.getvalue()
