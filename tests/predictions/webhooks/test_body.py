"""What each webhook says of a prediction that has ended since."""

from __future__ import annotations

from datetime import UTC, datetime

from predictions.record.prediction import Prediction, Progress
from predictions.record.schema import Status, WebhookEvent
from predictions.webhooks.body import prediction_at


def test_only_completed_shows_an_end() -> None:
    now = datetime.now(UTC)
    ended = Prediction(
        id="abc",
        owner="ann",
        status=Status.SUCCEEDED,
        input={},
        model="m",
        version="v",
        base_url="http://host",
        created_at=now,
        started_at=now,
        completed_at=now,
        output_key="k",
        logs="100%",
        metrics={"seed": 1},
        progress=Progress(4, 4),
    )
    shown = {event: prediction_at(event, ended) for event in WebhookEvent}
    assert shown[WebhookEvent.COMPLETED] == ended
    for event in (WebhookEvent.START, WebhookEvent.LOGS, WebhookEvent.OUTPUT):
        assert (shown[event].status, shown[event].completed_at, shown[event].metrics) == (Status.PROCESSING, None, {})
    assert [shown[event].output_key for event in WebhookEvent] == [None, "k", None, "k"]
    assert [shown[event].logs for event in WebhookEvent] == ["", "100%", "100%", "100%"]
