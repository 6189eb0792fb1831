"""Webhook signatures after the Standard Webhooks specification 1.0: the keys, and the headers of an attempt."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook as Signer

from predictions.settings import Settings
from predictions.token_file import ANYONE, is_of_plain_list
from predictions.webhooks.secrets import SecretState

FIRST = SecretState()
"""Before an owner changes its key."""


class SigningKeys:
    """The keys that sign the webhooks of each owner. Raises WrongSetting where there is no secret to derive them from.

    An owner's keys follow from the service's secret, which nobody is ever shown, or, where there is none, from each of
    the operator's keys. So nobody who knows one owner's key can make another's. The operator's own keys sign too where
    receivers may know no others: for a service without tokens, and beside the first key of an owner whose token is of
    the plain list. They cease when that owner changes its key.
    """

    def __init__(self, settings: Settings) -> None:
        self._operators = operators_keys(settings)
        secret = settings.secret.get_secret_value()
        self._secrets = (secret,) if secret else self._operators

    def of(self, owner: str, state: SecretState = FIRST) -> tuple[str, ...]:
        """The keys that sign this owner's webhooks, the current one first. Several where the owner or the operator has
        changed a key lately.
        """
        numbers = range(state.current, state.oldest - 1, -1)
        return tuple(key for number in numbers for key in self._numbered(owner, number))

    def current(self, owner: str, state: SecretState = FIRST) -> str:
        """The key that the owner's receivers should use from now on."""
        return self.of(owner, state)[0]

    def _numbered(self, owner: str, number: int) -> tuple[str, ...]:
        if number == 0 and owner == ANYONE:
            return self._operators
        own = tuple(_owners_key(secret, owner, number) for secret in self._secrets)
        return own + self._operators if number == 0 and is_of_plain_list(owner) else own


def operators_keys(settings: Settings) -> tuple[str, ...]:
    """The keys that the operator has set, the current one first, or the one that follows from the service's secret.

    Raises WrongSetting where there is neither.
    """
    keys = tuple(secret.get_secret_value() for secret in settings.webhook_secrets)
    return keys or (derived_key(settings.require_secret()),)


def derived_key(secret: str) -> str:
    """The key that follows from the service's secret where none is set: `whsec_` and standard base64."""
    return _key(secret, "webhook signing key")


def _owners_key(secret: str, owner: str, number: int) -> str:
    return _key(secret, f"webhook signing key {number} of {owner}")


def _key(secret: str, purpose: str) -> str:
    key = hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()
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
