"""List the webhook deliveries of a prediction or a training, and send one again.

And read and rotate the secret that signs webhooks.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from app import predictions, webhook_secrets
from app.application import InjectedServices
from app.auth import Creator, CurrentTenant, Owner
from app.routes.parameters import PredictionId, TrainingId
from app.routes.responses import MISSING, REFUSALS
from predictions.record.schema import DeliveryState, Kind, WebhookEvent
from predictions.webhooks.deliveries import Delivery

router = APIRouter(tags=["webhooks"], responses=REFUSALS | MISSING)

DeliveryId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,100}$", description="The delivery's `webhook-id`.")]


class WebhookAttemptBody(BaseModel):
    """One POST to the receiver."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    started_at: datetime
    status: int | None = Field(description="The status of the receiver's answer; null where none came.")
    error: str | None = Field(description="Why no answer came. If `status` is null too, it runs or was interrupted.")
    seconds: float | None = Field(description="How long the answer took.")


class WebhookDeliveryBody(BaseModel):
    """One webhook and every attempt to deliver it."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(description="The `webhook-id` that the receiver sees.")
    event: WebhookEvent
    state: DeliveryState = Field(
        description=(
            "`failed`: after the last retry; `superseded`: a newer webhook says more; `disabled`: after a 410."
        )
    )
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="Null where there will be none.")
    attempts: list[WebhookAttemptBody]


class DeliveryList(BaseModel):
    """The webhooks of a prediction or a training, oldest first."""

    results: list[WebhookDeliveryBody]


class WebhookSecretBody(BaseModel):
    """The secret that signs this token's webhooks."""

    model_config = ConfigDict(from_attributes=True)

    key: str = Field(description="`whsec_` and base64, as the Standard Webhooks specification asks for.")
    old_keys_until: datetime | None = Field(
        description="Until then the key before this one signs every webhook too; null where none does."
    )


@router.get("/webhooks/secret")
async def get_webhook_secret(tenant: Creator, services: InjectedServices) -> WebhookSecretBody:
    """Read the secret that signs this token's webhooks. No other token has it."""
    return WebhookSecretBody.model_validate(await webhook_secrets.read(services, tenant.owner))


@router.post("/webhooks/secret/rotate")
async def rotate_webhook_secret(tenant: CurrentTenant, services: InjectedServices) -> WebhookSecretBody:
    """Replace the secret by another one. Every webhook is signed with the old one too for 24 hours."""
    return WebhookSecretBody.model_validate(await webhook_secrets.rotate(services, tenant.owner))


@router.get("/predictions/{prediction_id}/webhook-deliveries")
async def list_webhook_deliveries(
    prediction_id: PredictionId, owner: Owner, services: InjectedServices
) -> DeliveryList:
    """List the webhooks of a prediction, with every attempt to deliver them."""
    return _listed(await predictions.list_deliveries(services, owner, prediction_id))


@router.get("/trainings/{training_id}/webhook-deliveries")
async def list_training_webhook_deliveries(
    training_id: TrainingId, owner: Owner, services: InjectedServices
) -> DeliveryList:
    """List the webhooks of a training, with every attempt to deliver them."""
    return _listed(await predictions.list_deliveries(services, owner, training_id, Kind.TRAINING))


@router.post("/predictions/{prediction_id}/webhook-deliveries/{delivery_id}/redeliver", status_code=202)
async def redeliver_webhook(
    prediction_id: PredictionId, delivery_id: DeliveryId, owner: Owner, services: InjectedServices
) -> WebhookDeliveryBody:
    """Send a webhook again, whatever became of it: at once, under the same `webhook-id`, and with all its retries."""
    sent = await predictions.redeliver(services, owner, prediction_id, delivery_id)
    return WebhookDeliveryBody.model_validate(sent)


@router.post("/trainings/{training_id}/webhook-deliveries/{delivery_id}/redeliver", status_code=202)
async def redeliver_training_webhook(
    training_id: TrainingId, delivery_id: DeliveryId, owner: Owner, services: InjectedServices
) -> WebhookDeliveryBody:
    """Send a training's webhook again, as a prediction's."""
    sent = await predictions.redeliver(services, owner, training_id, delivery_id, Kind.TRAINING)
    return WebhookDeliveryBody.model_validate(sent)


def _listed(found: list[Delivery]) -> DeliveryList:
    return DeliveryList(results=[WebhookDeliveryBody.model_validate(item) for item in found])
