"""Do a prediction again: the same input, seed included, by the same version of its model."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import APIRouter, Request, Response

from app import files
from app.auth import Owner
from app.bodies import RerunRequest
from app.problems import Problem
from app.routes.predictions import (
    CREATED,
    MISSING,
    REFUSALS,
    IdempotencyKey,
    PredictionId,
    Prefer,
    accepted,
    answer_created,
    owned,
)
from app.services import InjectedServices, Services
from predictions.errors import FileNotFound, InvalidInput, NotRepeatable
from predictions.models.inputs import Input, check_abilities, check_duration
from predictions.models.served import ServedModel
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Prediction, new_id
from predictions.representation import PredictionBody

router = APIRouter(tags=["predictions"], responses=REFUSALS | MISSING)

REFUSED: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "It has not ended, its version is served no more, or its uploaded audio is gone.",
    }
}


@router.post(
    "/predictions/{prediction_id}/rerun", status_code=202, response_model=PredictionBody, responses=CREATED | REFUSED
)
async def rerun_prediction(
    request: Request,
    prediction_id: PredictionId,
    owner: Owner,
    services: InjectedServices,
    body: RerunRequest | None = None,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Do a prediction that has ended again, as a new one. On the same machine a success gives the same bytes."""
    asked = body or RerunRequest()
    original = await owned(services, owner, prediction_id)
    if not original.status.is_terminal:
        raise NotRepeatable("It has not ended yet: wait for its end, or cancel it.")
    if asked.webhook is not None:
        files.check_foreign_url("webhook", asked.webhook, services)
    model = await _same_model(original, services)
    value = await _same_input(original, model, services)
    repeated = commands.create(
        NewPrediction(
            id=new_id(),
            owner=owner,
            digest=hashlib.sha256(f"rerun {original.id} {asked.digest()}".encode()).hexdigest(),
            input=value.model_dump(mode="json"),
            input_file=original.input_file,
            model=original.model,
            version=original.version,
            queue=model.entry.queue,
            base_url=services.base_url(request),
            webhook=asked.webhook_target(),
            stream_token=new_id() if asked.stream else None,
            live=asked.stream,
            rerun_of=original.id,
            wanted_audio_sha256=original.audio_sha256,
        ),
        idempotency_key=idempotency_key or "",
        remember_seconds=services.settings.remember_seconds,
        max_queued=services.settings.max_queued,
    )
    return await answer_created(accepted(await services.store.run(repeated), original.id), services, prefer)


async def _same_model(original: Prediction, services: Services) -> ServedModel:
    """The model that made it; raises NotRepeatable, NoModel."""
    try:
        return await services.models.for_version(f"{original.model}:{original.version}")
    except InvalidInput as error:
        raise NotRepeatable(
            f"Its version, {original.model}:{original.version}, is served no more. To have the current one make it, "
            "send its input to POST /predictions."
        ) from error


async def _same_input(original: Prediction, model: ServedModel, services: Services) -> Input:
    """Its input; raises InvalidInput for what is allowed no more, NotRepeatable for audio that is gone."""
    value = Input.model_validate(original.input)
    check_duration(value, services.settings.max_duration)
    check_abilities(value, model.card)
    if original.input_file is not None:
        await _require_file(services, original.owner, original.input_file)
    elif value.input_audio is not None:
        files.check_foreign_url("input_audio", value.input_audio, services)
    return value


async def _require_file(services: Services, owner: str, file_id: str) -> None:
    try:
        await files.owned_file(services, owner, file_id)
    except FileNotFound as error:
        raise NotRepeatable(
            f"Its input_audio, the file {file_id}, has been deleted. Send the audio and the input, seed included, to "
            "POST /predictions."
        ) from error
