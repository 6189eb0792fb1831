"""What a webhook says: the prediction as it stood at the webhook's event."""

from __future__ import annotations

from dataclasses import replace

from predictions.record.prediction import Prediction
from predictions.record.schema import Status, WebhookEvent


def prediction_at(event: WebhookEvent, prediction: Prediction) -> Prediction:
    """The prediction as a webhook of this event shows it.

    The body is made for each attempt, because the output's URL expires. Only `completed` shows an end, however late
    another webhook is sent: a receiver acts upon an end once, and never before its webhook has come.
    """
    if event is WebhookEvent.COMPLETED:
        return prediction
    running = replace(
        prediction, status=Status.PROCESSING, completed_at=None, error=None, metrics={}, queue_position=None
    )
    match event:
        case WebhookEvent.START:
            return replace(running, output_key=None, output=None, logs="", progress=None)
        case WebhookEvent.LOGS:
            return replace(running, output_key=None, output=None)
        case _:
            return running
