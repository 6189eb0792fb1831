"""The secret that signs an owner's webhooks, without HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.services import Services
from predictions.record.prediction import new_id
from predictions.webhooks.secrets import rotate_secret, secret_state


@dataclass(frozen=True)
class WebhookSecret:
    """The key that an owner's receivers should use."""

    key: str
    old_keys_until: datetime | None
    """Until then, those before it sign every webhook too."""


async def read(services: Services, owner: str) -> WebhookSecret:
    """Return the current one."""
    state = await services.store.run(secret_state(owner))
    return WebhookSecret(services.signing_keys.current(owner, state), state.old_ones_until)


async def rotate(services: Services, owner: str) -> WebhookSecret:
    """Replace the current one, and return the next."""
    await services.store.run(rotate_secret(owner, new_id()))
    return await read(services, owner)
