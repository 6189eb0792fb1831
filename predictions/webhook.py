"""Webhooks after the Standard Webhooks specification 1.0: headers, signature, when to try again. Performs nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from datetime import datetime

from standardwebhooks import Webhook as Signer

from predictions.prediction import WebhookEvent

RETRY_DELAYS_SECONDS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 28800.0)
"""About a day in all; each is lengthened by up to a fifth, so that a receiver that comes back is not stormed."""

TIMEOUT_SECONDS = 15.0


def signing_key(secret: str) -> str:
    """The key that receivers verify with, derived from the service's secret: `whsec_` and standard base64."""
    key = hmac.new(secret.encode(), b"webhook signing key", hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(key).decode()


def webhook_id(prediction_id: str, event: WebhookEvent) -> str:
    """The same for every attempt at one event, so that a receiver can recognise a repetition; has no dots."""
    return f"{prediction_id}-{event}"


def signed_headers(key: str, message_id: str, sent_at: datetime, body: bytes) -> dict[str, str]:
    """The headers of one attempt; `sent_at` is in UTC."""
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Signer(key).sign(message_id, sent_at, body.decode()),
    }


def is_delivered(status: int) -> bool:
    """Whether the receiver took it: any 2xx; a redirect is not followed and counts as a failure."""
    return 200 <= status < 300


def retry_delay(attempts: int, status: int | None, retry_after: str | None) -> float | None:
    """Seconds until the next attempt after `attempts` failed ones, or None to give up.

    410 Gone ends it; `Retry-After` in whole seconds is honoured up to a day. `status` is None where no answer came.
    """
    if status == 410 or attempts > len(RETRY_DELAYS_SECONDS):
        return None
    delay = RETRY_DELAYS_SECONDS[attempts - 1] * random.uniform(1.0, 1.2)
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        delay = max(delay, min(float(retry_after), 86_400.0))
    return delay
