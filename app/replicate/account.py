"""Who is asking, on what hardware, and the secret that signs webhooks."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.auth import Owner
from app.routes.predictions import REFUSALS
from app.services import InjectedServices
from predictions.webhooks.signing import current_key

router = APIRouter(tags=["account"], responses=REFUSALS)


class AccountBody(BaseModel):
    """The owner of this deployment."""

    type: Literal["user", "organization"]
    username: str
    name: str
    github_url: str | None = None


class HardwareBody(BaseModel):
    """What predictions run on."""

    name: str
    sku: str


class SecretBody(BaseModel):
    """The secret that signs webhooks."""

    key: str


ACCOUNT = AccountBody(type="organization", username="local", name="This MusicGen server")
HARDWARE = HardwareBody(name="Whatever its workers run on", sku="local")


@router.get("/account")
async def get_account(_owner: Owner) -> AccountBody:
    """There is one account."""
    return ACCOUNT


@router.get("/hardware")
async def list_hardware(_owner: Owner) -> list[HardwareBody]:
    """There is one kind."""
    return [HARDWARE]


@router.get("/webhooks/default/secret")
async def get_webhook_secret(_owner: Owner, services: InjectedServices) -> SecretBody:
    """The current secret; the clients' own functions verify with it."""
    return SecretBody(key=current_key(services.settings))
