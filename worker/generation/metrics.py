"""What is measured of a prediction that has been carried out: its metrics, and how fast it was made."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from musicgen_core import Job, MusicGen, Waveform, WorkDone, decode_wav, integrated_loudness, read_audio, true_peak
from predictions.estimates import throughput
from predictions.models.inputs import Input, OutputFormat
from predictions.record.command import Command
from predictions.record.prediction import Prediction


class Stopwatch:
    """The moments of one attempt, by `time.monotonic`."""

    def __init__(self) -> None:
        self.claimed = time.monotonic()
        """When it was claimed."""

    @property
    def seconds(self) -> float:
        """Since it was claimed."""
        return time.monotonic() - self.claimed


def metrics(prediction: Prediction, job: Job, watch: Stopwatch, audio: Waveform, delivered: Waveform) -> dict[str, Any]:
    """What is worth knowing of a prediction that succeeded with this audio; `delivered`: see `as_delivered`."""
    seconds = watch.seconds
    assert prediction.started_at is not None
    # Both times are Redis's, so that the workers' clocks do not matter; of the first attempt, should there be more.
    queued = (prediction.started_at - prediction.created_at).total_seconds()
    return {
        "predict_time": round(seconds, 4),
        "queue_time": round(queued + (job.started_at or watch.claimed) - watch.claimed, 4),
        "seed": prediction.input["seed"],
        "duration": round(audio.duration, 4),
        "real_time_factor": round(seconds / audio.duration, 4),
        "loudness": _decibels(integrated_loudness(delivered)),
        "true_peak": _decibels(true_peak(delivered)),
        "attempt": prediction.attempt,
    }


def as_delivered(content: bytes, output_format: OutputFormat, audio: Waveform) -> Waveform:
    """An output file as its listeners hear it: rounded to 16 bits, or with what mp3 makes of it. `audio` is what was
    encoded. Raises AudioDecodeError."""
    if output_format is OutputFormat.WAV:
        return decode_wav(content)
    with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
        path = Path(folder) / "output"
        path.write_bytes(content)
        return read_audio(path, sample_rate=audio.sample_rate, channels=audio.channels, max_seconds=audio.duration + 1)


def measured_other(prediction: Prediction, value: Input, job: Job) -> Command[bool]:
    """What a prediction that has just succeeded took beside decoding: its text and audio encoded, its sound made."""
    assert job.decoded_at is not None
    seconds = job.encoding_seconds + time.monotonic() - job.decoded_at
    return throughput.measured_other(
        prediction.queue,
        prediction.version,
        seconds=seconds / value.duration,
        diffusion=value.multi_band_diffusion,
    )


class StepMeter:
    """How fast a model decoded since it was last looked at."""

    def __init__(self, model: MusicGen, queue: str, version: str) -> None:
        self._model = model
        self._queue = queue
        self._version = version
        self._before = WorkDone()

    def read(self) -> Command[bool] | None:
        """The command that writes it down; None where it decoded nothing."""
        done, before = self._model.work_done, self._before
        self._before = done
        if not (steps := done.steps - before.steps):
            return None
        return throughput.measured_steps(
            self._queue,
            self._version,
            together=(done.shared - before.shared) / steps,
            step_seconds=(done.seconds - before.seconds) / steps,
        )


def _decibels(level: float) -> float | None:
    """For JSON, which has no infinity: silence has no level."""
    return round(level, 2) if level > -100 else None
