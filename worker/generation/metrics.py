"""Measurements of a generation: the metrics that its record shows, and the throughput that estimates rest on."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from musicgen_core import (
    EngineStatistics,
    Job,
    MusicGen,
    OutputFormat,
    Waveform,
    decode_wav,
    integrated_loudness,
    read_audio,
    true_peak,
)
from predictions.estimates import throughput
from predictions.models.inputs import Input
from predictions.observability.life import Made
from predictions.record.command import Command
from predictions.record.prediction import Prediction, now


def metrics(prediction: Prediction, job: Job, taken_at: float, audio: Waveform, delivered: Waveform) -> dict[str, Any]:
    """The metrics of a prediction that succeeded with this audio, as its record stores them.

    `taken_at`: when it was taken, by `time.monotonic`. `delivered`: the audio as its listeners hear it
    (`as_delivered`), whose level is measured.
    """
    seconds = time.monotonic() - taken_at
    assert prediction.started_at is not None
    # Both times are from Redis, so that differences between the machines' clocks do not matter. `started_at` is that of
    # the first attempt.
    queued = (prediction.started_at - prediction.created_at).total_seconds()
    return {
        "predict_time": round(seconds, 4),
        "queue_time": round(queued + (job.started_at or taken_at) - taken_at, 4),
        "seed": prediction.input["seed"],
        "duration": round(audio.duration, 4),
        "real_time_factor": round(seconds / audio.duration, 4),
        "loudness": _decibels(integrated_loudness(delivered)),
        "true_peak": _decibels(true_peak(delivered)),
        "attempt": prediction.attempt,
    }


def made(prediction: Prediction, job: Job, taken_at: float, audio: Waveform, *, diffusion: bool) -> Made:
    """How a prediction that just succeeded was made; `taken_at`: when it was taken, by `time.monotonic`."""
    generated = time.monotonic() - taken_at
    assert prediction.started_at is not None
    before = (prediction.started_at - prediction.created_at).total_seconds()
    return Made(
        queued=max(0.0, before + (job.started_at or taken_at) - taken_at),
        generated=generated,
        # This machine's clock against Redis', so that the time of earlier attempts counts.
        total=max(before + generated, (now() - prediction.created_at).total_seconds()),
        music=audio.duration,
        encoding=job.encoding_seconds,
        decoding=job.decoding_seconds,
        diffusion=diffusion,
    )


def as_delivered(content: bytes, output_format: OutputFormat, audio: Waveform) -> Waveform:
    """Decode an output file, to hear the audio as its listeners do: after rounding, or after mp3's losses.

    `audio` is what was encoded. Raises AudioDecodeError.
    """
    if output_format in (OutputFormat.WAV, OutputFormat.WAV24):
        return decode_wav(content)
    with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
        path = Path(folder) / "output"
        path.write_bytes(content)
        return read_audio(path, sample_rate=audio.sample_rate, channels=audio.channels, max_seconds=audio.duration + 1)


def measured_overhead(prediction: Prediction, value: Input, job: Job) -> Command[bool]:
    """The command that records how long a prediction that just succeeded took beside the decoding of its tokens.

    That is the encoding of its text and audio, and all that followed the last token: sound, level, file, storage. In
    seconds for each second of music.
    """
    assert job.decoded_at is not None
    seconds = job.encoding_seconds + time.monotonic() - job.decoded_at
    return throughput.measured_other(
        prediction.queue,
        prediction.served_version,
        seconds=seconds / value.duration,
        diffusion=value.multi_band_diffusion,
    )


class StepMeter:
    """Measures a model's decoding speed between two readings."""

    def __init__(self, model: MusicGen, queue: str, version: str) -> None:
        self._model = model
        self._queue = queue
        self._version = version
        self._before = EngineStatistics()

    def read(self) -> Command[bool] | None:
        """The command that records the speed since the last reading; None where nothing was decoded."""
        done, before = self._model.statistics, self._before
        self._before = done
        if not (steps := done.steps - before.steps):
            return None
        return throughput.measured_steps(
            self._queue,
            self._version,
            together=(done.request_steps - before.request_steps) / steps,
            step_seconds=(done.seconds - before.seconds) / steps,
        )


def _decibels(level: float) -> float | None:
    """The level rounded for JSON, which has no infinity: None for silence."""
    return round(level, 2) if level > -100 else None
