"""What clients do with trainings, without HTTP, beyond what they do with predictions (`app.predictions`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial

from app import files, predictions
from app.predictions import Submission
from app.retries.connection import Connection
from app.services import Services
from predictions.errors import FieldError, InvalidInput, ModelNotFound
from predictions.fine_tunes import commands as fine_tunes
from predictions.models.served import ServedModel
from predictions.observability.logs import FIELDS
from predictions.record.prediction import NewPrediction, Prediction, new_id
from predictions.record.schema import Kind
from predictions.trainings.inputs import TrainingInput


@dataclass(frozen=True)
class Order:
    """What is to be trained, from what, and what for."""

    value: TrainingInput
    base: ServedModel
    version: str | None
    """The base's; None for the one that its workers train."""
    destination: str | None
    """The tenant's fine-tune, owner/name; None for an inspection."""


async def create(
    services: Services, submission: Submission, order: Order, connection: Connection | None = None
) -> Prediction:
    """Accept a training, or find the one that the same request made before; `connection`: as for a prediction.

    Raises InvalidInput, NoTrainer, and what `predictions.accept` raises.
    """
    # The base stands in the path of some requests, and not in their body.
    words = f"training {order.base.name}:{order.version} {submission.digest}"
    submission = replace(submission, digest=hashlib.sha256(words.encode()).hexdigest())
    prepare = partial(_new_training, services, submission, order)
    return await predictions.accept(services, submission, order.value.dataset, prepare, connection=connection)


async def _new_training(services: Services, submission: Submission, order: Order) -> NewPrediction:
    """Check what is asked for, and store the dataset that comes with it."""
    value, card = order.value.settled(), order.base.trainable
    if order.version not in (None, card.version):
        raise InvalidInput(
            FieldError("version", f"{order.version} is not trained here", f"send {card.name}:{card.version}")
        )
    await _check_destination(services, submission.owner, order.destination, inspect=value.inspect)
    if submission.webhook is not None:
        files.require_reachable(services, "webhook", submission.webhook.url)
    max_bytes = services.settings.max_dataset_bytes
    url, file_id = await files.resolve(
        services, submission.owner, submission.base_url, "dataset", value.dataset, max_bytes
    )
    return NewPrediction(
        id=new_id(),
        kind=Kind.TRAINING,
        owner=submission.owner,
        digest=submission.digest,
        input=value.model_copy(update={"dataset": url}).model_dump(mode="json", exclude_none=True),
        input_file=file_id,
        model=order.base.name,
        version=card.version,
        destination=order.destination,
        queue=order.base.entry.training_queue,
        base_url=submission.base_url,
        webhook=submission.webhook,
        request_id=FIELDS.get({}).get("request_id"),
        priority=submission.priority,
        cancel_after=submission.cancel_after,
    )


async def _check_destination(services: Services, owner: str, destination: str | None, *, inspect: bool) -> None:
    """Raise InvalidInput unless the destination is a fine-tune of the owner's; an inspection needs none."""
    if destination is None:
        if inspect:
            return
        raise InvalidInput(FieldError("destination", "is missing", 'send the "owner/name" of a model of yours'))
    try:
        if (await services.store.run(fine_tunes.get(destination))).tenant == owner:
            return
    except ModelNotFound:
        pass
    remedy = "create it first: POST /v1/models with its owner and its name"
    raise InvalidInput(FieldError("destination", f"{destination} is no model of yours", remedy))
