"""List a prediction's webhook deliveries, and send one again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.auth import Owner
from app.bodies import DeliveryBody, DeliveryList
from app.routes.predictions import MISSING, REFUSALS, PredictionId, owned
from app.services import InjectedServices
from predictions.webhooks import deliveries

router = APIRouter(tags=["webhooks"], responses=REFUSALS | MISSING)

DeliveryId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,100}$", description="The delivery's `webhook-id`.")]


@router.get("/predictions/{prediction_id}/webhook-deliveries")
async def list_webhook_deliveries(
    prediction_id: PredictionId, owner: Owner, services: InjectedServices
) -> DeliveryList:
    """Every webhook of a prediction, with every attempt to deliver it."""
    await owned(services, owner, prediction_id)
    found = await services.store.run(deliveries.of(prediction_id))
    return DeliveryList(results=[DeliveryBody.model_validate(item) for item in found])


@router.post("/predictions/{prediction_id}/webhook-deliveries/{delivery_id}/redeliver", status_code=202)
async def redeliver_webhook(
    prediction_id: PredictionId, delivery_id: DeliveryId, owner: Owner, services: InjectedServices
) -> DeliveryBody:
    """Send a webhook again, whatever became of it: at once, under the same `webhook-id`, and with all its retries."""
    await owned(services, owner, prediction_id)
    return DeliveryBody.model_validate(await services.store.run(deliveries.redeliver(prediction_id, delivery_id)))
