"""The events of a prediction's life, as an operator sees them: each is told here, and nowhere else.

Whoever accepts, takes, ends or loses a prediction, or attempts a webhook, calls the function of that name; what becomes
of it (a line of the log, a metric) is decided here. How predictions end is counted by the scripts that end them
(`KEY.counts`), once each, whoever dies meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from predictions.observability import metrics
from predictions.observability.logs import belonging_to, event, note
from predictions.record.prediction import Prediction
from predictions.record.schema import Cause, Verdict

logger = logging.getLogger(__name__)


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


@contextmanager
def attempt_at(prediction: Prediction) -> Iterator[None]:
    """Carry out a part of an attempt inside the block: what is logged there belongs to the prediction."""
    with belonging_to(
        prediction=prediction.id,
        attempt=prediction.attempt,
        tenant=prediction.tenant,
        request_id=prediction.request_id,
    ):
        yield


def taken(prediction: Prediction) -> None:
    """Note that a worker begins an attempt at it."""
    if logger.isEnabledFor(logging.DEBUG):
        with attempt_at(prediction):
            event(logger, "Attempt begins", level=logging.DEBUG, model=prediction.model)


def succeeded(prediction: Prediction, made: Made) -> None:
    """Note that its music was made and stored."""
    model = prediction.model
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
        model=model,
        music_seconds=round(made.music, 3),
        queue_seconds=round(made.queued, 3),
        generation_seconds=round(made.generated, 3),
        seconds=round(made.total, 3),
    )


def failed(prediction: Prediction, cause: Cause, error: str) -> None:
    """Note that it failed, and why. What is wrong with an input is its client's affair, and may quote it."""
    if cause in (Cause.INPUT, Cause.INPUT_AUDIO):
        event(logger, "Prediction failed", model=prediction.model, cause=str(cause))
        event(logger, f"The input of {prediction.id} could not be used: {error}", level=logging.DEBUG)
    else:
        event(logger, f"Prediction failed: {error}", level=logging.WARNING, model=prediction.model, cause=str(cause))


def lease_lost(prediction: Prediction, reason: str) -> None:
    """Note that a worker lost its lease while it worked: `canceled`, or `refused` when it was renewed."""
    metrics.leases_lost.labels(prediction.model, reason).inc()


def stopped(prediction: Prediction) -> None:
    """Note that an attempt ended before the prediction did, or after its end: cancelled, given back, or taken over."""
    event(logger, f"{prediction.id} was stopped: cancelled, given back, or taken over", model=prediction.model)


def webhook_attempted(
    prediction_id: str, delivery_id: str, number: int, verdict: Verdict, *, seconds: float, outcome: str
) -> None:
    """Note an attempt to deliver a webhook; `outcome`: the receiver's status, or why there is none."""
    metrics.webhook_seconds.labels(str(verdict)).observe(seconds)
    event(
        logger,
        "Webhook attempted",
        prediction=prediction_id,
        webhook=delivery_id,
        attempt=number,
        verdict=str(verdict),
        outcome=outcome,
        seconds=round(seconds, 3),
    )
