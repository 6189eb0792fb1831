"""Webhook signatures after the Standard Webhooks specification 1.0: the keys, and the headers of an attempt."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook as Signer

from predictions.settings import Settings


def signing_keys(settings: Settings) -> tuple[str, ...]:
    """The keys that sign every webhook, the current one first. There are several while receivers change keys.

    Raises WrongSetting where there is neither a key nor a secret to derive one from.
    """
    keys = tuple(secret.get_secret_value() for secret in settings.webhook_secrets)
    return keys or (derived_key(settings.require_secret()),)


def current_key(settings: Settings) -> str:
    """The key that receivers should use from now on. Raises WrongSetting as `signing_keys` does."""
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
