"""Webhooks after the Standard Webhooks specification 1.0: keys, headers, what is told, when to try again.

Performs nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from standardwebhooks import Webhook as Signer

from predictions.record.prediction import Prediction
from predictions.record.schema import Status, WebhookEvent
from predictions.settings import Settings

RETRY_DELAYS_SECONDS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 21600.0)
"""About a day in all; each is lengthened by up to a fifth, so that a receiver that comes back is not stormed."""

MAX_RETRY_AFTER_SECONDS = 86_400.0
TIMEOUT_SECONDS = 15.0


def signing_keys(settings: Settings) -> tuple[str, ...]:
    """The keys that every webhook is signed with, the current one first; several while receivers change over.

    Raises SystemExit where there is neither a key nor a secret to derive one from.
    """
    keys = tuple(secret.get_secret_value() for secret in settings.webhook_secrets)
    return keys or (derived_key(settings.require_secret()),)


def current_key(settings: Settings) -> str:
    """The key that receivers should verify with from now on. Raises SystemExit as `signing_keys` does."""
    return signing_keys(settings)[0]


def derived_key(secret: str) -> str:
    """The key that follows from the service's secret where none is set: `whsec_` and standard base64."""
    key = hmac.new(secret.encode(), b"webhook signing key", hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(key).decode()


def signed_headers(keys: Sequence[str], message_id: str, sent_at: datetime, body: bytes) -> dict[str, str]:
    """The headers of one attempt, with a signature by each key; `sent_at` is in UTC.

    `message_id` is the same for every attempt at one webhook, so that a receiver can recognise a repetition.
    """
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(Signer(key).sign(message_id, sent_at, body.decode()) for key in keys),
    }


def as_told(prediction: Prediction, event: WebhookEvent) -> Prediction:
    """The prediction as a webhook of that event tells it.

    The body is made anew for each attempt, because the output's URL expires. But only `completed` tells of an end,
    however late another one is sent: who acts upon an end does so once, and nobody hears of one too early.
    """
    if event is WebhookEvent.COMPLETED:
        return prediction
    told = replace(prediction, status=Status.PROCESSING, completed_at=None, error=None, metrics={}, queue_position=None)
    match event:
        case WebhookEvent.START:
            return replace(told, output_key=None, logs="", progress=None)
        case WebhookEvent.LOGS:
            return replace(told, output_key=None)
        case _:
            return told


def is_delivered(status: int) -> bool:
    """Whether the receiver took it: any 2xx; a redirect is not followed and counts as a failure."""
    return 200 <= status < 300


def retry_delay(tries: int, retry_after: str | None) -> float | None:
    """Seconds until the next attempt after `tries` failed ones, or None to give up.

    `Retry-After`, in whole seconds or as a date, is honoured up to a day where it asks for more time.
    """
    if tries > len(RETRY_DELAYS_SECONDS):
        return None
    delay = RETRY_DELAYS_SECONDS[tries - 1] * random.uniform(1.0, 1.2)
    return max(delay, min(_seconds(retry_after or ""), MAX_RETRY_AFTER_SECONDS))


def _seconds(retry_after: str) -> float:
    """What a Retry-After asks for (RFC 9110, 10.2.3); 0 where it is neither a number nor a date."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return 0.0
    return (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
