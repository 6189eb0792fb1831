"""The account, its hardware, and the secret that signs its webhooks."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.application import InjectedServices
from app.auth import Owner
from app.routes.responses import REFUSALS
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
    """Read the account; there is one."""
    return ACCOUNT


@router.get("/hardware")
async def list_hardware(_owner: Owner) -> list[HardwareBody]:
    """List the hardware; there is one kind."""
    return [HARDWARE]


@router.get("/webhooks/default/secret")
async def get_webhook_secret(_owner: Owner, services: InjectedServices) -> SecretBody:
    """Read the current secret, with which the clients' own functions verify webhooks."""
    return SecretBody(key=current_key(services.settings))
