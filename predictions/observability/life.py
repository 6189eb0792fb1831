"""The events of a prediction's life, as an operator sees them: each is told here, and nowhere else.

Whoever accepts, takes, ends or loses a prediction, or attempts a webhook, calls the function of that name; what becomes
of it (a line of the log, a metric, a span) is decided here. How predictions end is counted by the scripts that end them
(`KEY.counts`), once each, whoever dies meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from predictions.errors import WrongSetting
from predictions.observability import metrics
from predictions.observability.logs import belonging_to, event, note
from predictions.record.prediction import Prediction
from predictions.record.schema import Cause, Verdict
from predictions.settings import Settings

if TYPE_CHECKING:
    from predictions.observability.traces import TimedJob, Traces

logger = logging.getLogger(__name__)

_traces: Traces | None = None
"""None where the settings ask for no traces: then there is nothing more to them than looking here."""


def begin_traces(settings: Settings, process: str) -> None:
    """Make traces from now on, where the settings ask for them; `process`: what kind of process this is.

    Raises WrongSetting.
    """
    global _traces
    if not settings.traces:
        return
    try:
        from predictions.observability.traces import Traces
    except ImportError as error:
        raise WrongSetting(
            f"MUSICGEN_TRACES needs the extra `otel` ({error}): pip install 'musicgen-server[otel]', or unset it."
        ) from error
    _traces = Traces(process)


def end_traces() -> None:
    """Export what has not been exported, before the process ends."""
    if _traces is not None:
        _traces.close()


def trace_headers() -> dict[str, str]:
    """Return the headers that make a request part of the present trace; none where there is no trace."""
    return {} if _traces is None else _traces.headers()


@dataclass(frozen=True)
class Made:
    """How the music of a prediction was made, in seconds."""

    queued: float
    """From its creation to its first step."""
    generated: float
    """From the beginning of the attempt to its end."""
    total: float
    """From its creation to its end."""
    music: float
    """The length of the music."""
    encoding: float
    decoding: float
    """From tokens to sound, waiting for other work not included."""
    diffusion: bool
    """Whether MultiBand Diffusion made the sound."""


def accepted(prediction: Prediction) -> None:
    """Note that a request has created the prediction, or found it: the line of the request says which it is."""
    note(prediction=prediction.id)
    if _traces is not None:
        _traces.accepted(prediction)


def sending(queue: str, prediction_id: str) -> AbstractContextManager[str | None]:
    """Put a prediction into a queue inside the block, which is given the traceparent that is to be kept with it."""
    return nullcontext() if _traces is None else _traces.sending(queue, prediction_id)


@contextmanager
def attempt_at(prediction: Prediction) -> Iterator[None]:
    """Carry out a part of an attempt inside the block: what is logged there belongs to the prediction."""
    with (
        nullcontext("") if _traces is None else _traces.attempt_at(prediction) as trace_id,
        belonging_to(
            prediction=prediction.id,
            attempt=prediction.attempt,
            tenant=prediction.tenant,
            request_id=prediction.request_id,
            trace_id=trace_id,
        ),
    ):
        yield


def step(name: str) -> AbstractContextManager[None]:
    """Have the block be a step of whatever is done at present: a request, or an attempt."""
    return nullcontext() if _traces is None else _traces.step(name)


def generating(prediction: Prediction, job: TimedJob) -> AbstractContextManager[None]:
    """Have the prediction's music made by this job inside the block."""
    return nullcontext() if _traces is None else _traces.generating(prediction, job)


def taken(prediction: Prediction, seconds: float) -> None:
    """Note that a worker begins an attempt at it; `seconds`: how long Redis took to hand it over."""
    if _traces is not None:
        _traces.taken(prediction, seconds)
    if logger.isEnabledFor(logging.DEBUG):
        with attempt_at(prediction):
            event(logger, "Attempt begins", level=logging.DEBUG, model=prediction.model)


def succeeded(prediction: Prediction, made: Made) -> None:
    """Note that its music was made and stored."""
    if _traces is not None:
        _traces.ended("succeeded")
    # Not the fine-tune's name: clients make those up, and each would be another time series.
    model = prediction.served_model
    metrics.queue_seconds.labels(model).observe(made.queued)
    metrics.generation_seconds.labels(model).observe(made.generated)
    metrics.end_to_end_seconds.labels(model).observe(made.total)
    metrics.real_time_factor.labels(model).observe(made.generated / made.music)
    metrics.music_seconds.labels(model).inc(made.music)
    metrics.encoding_seconds.labels(model).observe(made.encoding)
    metrics.codec_seconds.labels(model, "diffusion" if made.diffusion else "codec").observe(made.decoding)
    event(
        logger,
        "Prediction succeeded",
        model=prediction.model,
        music_seconds=round(made.music, 3),
        queue_seconds=round(made.queued, 3),
        generation_seconds=round(made.generated, 3),
        seconds=round(made.total, 3),
    )


def trained(training: Prediction, seconds: float) -> None:
    """Note that a training has ended well; `seconds`: since it was first taken."""
    if _traces is not None:
        _traces.ended("succeeded")
    event(logger, "Training succeeded", model=training.model, seconds=seconds)


def failed(prediction: Prediction, cause: Cause, error: str) -> None:
    """Note that it failed, and why. What is wrong with an input is its client's affair, and may quote it."""
    if _traces is not None:
        _traces.ended("failed", cause)
    if cause in (Cause.INPUT, Cause.INPUT_AUDIO):
        event(logger, f"{prediction.kind.capitalize()} failed", model=prediction.model, cause=str(cause))
        event(logger, f"The input of {prediction.id} could not be used: {error}", level=logging.DEBUG)
    else:
        text = f"{prediction.kind.capitalize()} failed: {error}"
        event(logger, text, level=logging.WARNING, model=prediction.model, cause=str(cause))


def lease_lost(prediction: Prediction, reason: str) -> None:
    """Note that a worker lost its lease while it worked: `canceled`, or `refused` when it was renewed."""
    metrics.leases_lost.labels(prediction.served_model, reason).inc()


def stopped(prediction: Prediction) -> None:
    """Note that an attempt ended before the prediction did, or after its end: cancelled, given back, or taken over."""
    if _traces is not None:
        _traces.ended("stopped")
    event(logger, f"{prediction.id} was stopped: cancelled, given back, or taken over", model=prediction.model)


def released(prediction: Prediction) -> None:
    """Note that the worker is done with an attempt, however it ended."""
    if _traces is not None:
        _traces.released(prediction)


@contextmanager
def webhook_attempt_at(prediction: Prediction, delivery_id: str, number: int) -> Iterator[None]:
    """Attempt to deliver a webhook inside the block, and say there how that went (`webhook_attempted`)."""
    if _traces is None:
        yield
        return
    with _traces.webhook_attempt(prediction, delivery_id, number) as trace_id, belonging_to(trace_id=trace_id):
        yield


def webhook_attempted(
    prediction_id: str,
    delivery_id: str,
    number: int,
    verdict: Verdict,
    *,
    seconds: float,
    status: int | None,
    error: str | None,
) -> None:
    """Note an attempt to deliver a webhook; `status`: the receiver's; `error`: why there is none."""
    if _traces is not None:
        _traces.webhook_attempted(verdict, seconds, status)
    metrics.webhook_seconds.labels(str(verdict)).observe(seconds)
    event(
        logger,
        "Webhook attempted",
        prediction=prediction_id,
        webhook=delivery_id,
        attempt=number,
        verdict=str(verdict),
        outcome=error or f"status {status}",
        seconds=round(seconds, 3),
    )
