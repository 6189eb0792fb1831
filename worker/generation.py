"""Carry out one prediction: claim it, fetch its audio, generate, set its level, encode, store, and say how it ended."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from musicgen_core import GenerationInput, Job, MusicGen, SamplingParams, Waveform, audio_file, loudness
from musicgen_core.errors import GenerationCancelled, InvalidRequest, MusicGenError
from musicgen_core.input_audio import trim
from predictions import commands
from predictions.errors import LeaseLost, ObjectNotFound, StorageError
from predictions.files import file_key
from predictions.inputs import Input, OutputFormat
from predictions.prediction import Prediction, Progress, output_key
from predictions.settings import Settings
from predictions.storage import AudioStorage
from predictions.store import PredictionStore
from worker import outbound
from worker.leases import Lease, LeaseKeeper

logger = logging.getLogger(__name__)

STORAGE_RETRY_SECONDS = (0.5, 2.0, 5.0)
CONTENT_TYPES = {OutputFormat.WAV: "audio/wav", OutputFormat.MP3: "audio/mpeg"}
ENCODERS: dict[OutputFormat, Callable[[Waveform], bytes]] = {
    OutputFormat.WAV: audio_file.encode_wav,
    OutputFormat.MP3: audio_file.encode_mp3,
}


class Generator:
    """Carries out predictions with the one model of this process; called by many threads at once."""

    def __init__(
        self,
        model: MusicGen,
        store: PredictionStore,
        storage: AudioStorage,
        leases: LeaseKeeper,
        settings: Settings,
        *,
        version: str,
    ) -> None:
        self._model = model
        self._store = store
        self._storage = storage
        self._leases = leases
        self._settings = settings
        self._version = version

    def run(self, prediction_id: str) -> None:
        """Carry out the prediction, unless it has ended or another worker holds it."""
        with self._leases.hold(prediction_id) as lease:
            if lease is None:
                logger.info("%s is not to be done: it has ended or is being done", prediction_id)
                return
            prediction = self._store.run(commands.get(prediction_id))
            try:
                self._carry_out(prediction, lease)
            except (LeaseLost, GenerationCancelled):
                logger.info("%s stopped: cancelled, or taken over by another worker", prediction_id)
            except (MusicGenError, outbound.DownloadError, StorageError) as error:
                self._fail(lease, str(error))
            except OSError as error:
                # A full disk, most likely: it is this job's bad luck, and the next one may have better.
                logger.exception("%s failed", prediction_id)
                self._fail(lease, f"The worker could not read or write a file: {error.strerror or error}.")
            except Exception:
                logger.exception("%s failed", prediction_id)
                self._fail(lease, "Internal error: the worker's log says which.")

    def _carry_out(self, prediction: Prediction, lease: Lease) -> None:
        started = time.monotonic()
        if prediction.version != self._version:
            raise InvalidRequest(
                f"Version {prediction.version} of the model, which was asked for, is served no more; send it again."
            )
        value = Input.model_validate(prediction.input)
        assert value.seed is not None
        lease.logs = f"Using seed {value.seed}\n"
        generation_input = self._prepare(prediction, value, lease)
        job = self._model.submit(generation_input)
        audio = self._follow(job, lease)
        lease.check()
        audio = loudness.normalize(audio, loudness.NormalizationStrategy(value.normalization_strategy))
        key = output_key(prediction.id, lease.attempt, value.output_format)
        content = ENCODERS[value.output_format](audio)
        lease.check()
        self._put(key, content, CONTENT_TYPES[value.output_format])
        metrics = _metrics(prediction, value.seed, audio, started, job.started_at or started)
        self._succeed(lease, key, metrics, Progress(job.total_steps, job.total_steps))

    def _prepare(self, prediction: Prediction, value: Input, lease: Lease) -> GenerationInput:
        clip = self._input_audio(prediction, value) if value.input_audio is not None else None
        lease.check()
        continuation = clip if value.continuation else None
        return GenerationInput(
            prompt=value.prompt,
            duration=self._model.new_seconds(value.duration, continuation, value.continuation_mode.value)
            if continuation
            else value.duration,
            sampling=SamplingParams(
                temperature=value.temperature,
                top_k=value.top_k,
                top_p=value.top_p,
                guidance=float(value.classifier_free_guidance),
            ),
            seed=value.seed or 0,
            melody=None if value.continuation else clip,
            continuation=continuation,
            multi_band_diffusion=value.multi_band_diffusion,
        )

    def _input_audio(self, prediction: Prediction, value: Input) -> Waveform:
        """Fetch and decode the part of the clip that is used. Raises DownloadError, StorageError, MusicGenError."""
        with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
            path = Path(folder) / "input"
            if prediction.input_file is not None:
                path.write_bytes(self._read_file(prediction.input_file))
            else:
                assert value.input_audio is not None
                outbound.download(
                    value.input_audio,
                    path,
                    max_bytes=self._settings.max_input_audio_bytes,
                    timeout_seconds=self._settings.download_timeout_seconds,
                    allowed_networks=self._settings.outbound_allow,
                )
            clip = self._model.read_audio(path, max_seconds=self._settings.max_input_audio_seconds)
        return trim(clip, start=value.continuation_start, end=value.continuation_end)

    def _read_file(self, file_id: str) -> bytes:
        try:
            return self._storage.open(file_key(file_id))
        except ObjectNotFound as error:
            raise InvalidRequest(f"The uploaded file {file_id} has been deleted; send it again.") from error

    def _follow(self, job: Job, lease: Lease) -> Waveform:
        """Wait for the job, writing down its progress; stops it when the lease is lost."""
        lease.when_lost(job.cancel)
        header, meter = lease.logs, _Meter(job)

        def write_down(done: int, total: int) -> None:
            lease.progress = Progress(done, total)
            lease.logs = header + meter.lines()

        return job.finish(write_down)

    def _put(self, key: str, content: bytes, content_type: str) -> None:
        for delay in STORAGE_RETRY_SECONDS:
            try:
                return self._storage.put(key, content, content_type)
            except StorageError as error:
                logger.warning("Storing %s failed, trying again in %s s: %s", key, delay, error)
                time.sleep(delay)
        return self._storage.put(key, content, content_type)

    def _succeed(self, lease: Lease, key: str, metrics: dict[str, Any], progress: Progress) -> None:
        succeeded = commands.succeed(
            lease.prediction_id,
            lease.attempt,
            output_key=key,
            metrics=metrics,
            logs=lease.logs,
            progress=progress,
        )
        if not self._store.run(succeeded):
            # Nobody will ever ask for it: the prediction was cancelled, deleted or taken over meanwhile.
            self._storage.delete_prefix(key)
            raise LeaseLost(lease.prediction_id)

    def _fail(self, lease: Lease, error: str) -> None:
        logger.warning("%s failed: %s", lease.prediction_id, error)
        self._store.run(commands.fail(lease.prediction_id, lease.attempt, error=error, logs=lease.logs))


def _metrics(prediction: Prediction, seed: int, audio: Waveform, claimed: float, first_step: float) -> dict[str, Any]:
    """What is worth knowing of a prediction that succeeded; `claimed` and `first_step` by `time.monotonic`."""
    measured = loudness.integrated_loudness(audio)
    seconds = time.monotonic() - claimed
    assert prediction.started_at is not None
    # Both times are Redis's, so that the workers' clocks do not matter; of the first attempt, should there be more.
    queued = (prediction.started_at - prediction.created_at).total_seconds()
    return {
        "predict_time": round(seconds, 4),
        "queue_time": round(queued + first_step - claimed, 4),
        "seed": seed,
        "duration": round(audio.duration, 4),
        "real_time_factor": round(seconds / audio.duration, 4),
        # JSON has no infinity; silence has no loudness.
        "loudness": round(measured, 2) if measured > -100 else None,
        "attempt": prediction.attempt,
    }


@dataclass
class _Meter:
    """Progress in lines as tqdm prints them, which clients parse; one for about every twentieth of the way."""

    job: Job
    started: float = field(default_factory=time.monotonic)
    _text: str = ""
    _shown: int = -1

    def lines(self) -> str:
        done, total = self.job.completed_steps, self.job.total_steps
        if self.job.started and done * 20 // total > self._shown:
            self._shown = done * 20 // total
            self._text += tqdm.format_meter(done, total, time.monotonic() - self.started, ncols=80) + "\n"
        return self._text
