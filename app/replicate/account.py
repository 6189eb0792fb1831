"""The account, its hardware, and the secret that signs its webhooks."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app import webhook_secrets
from app.application import InjectedServices
from app.auth import AnyTenant, Creator
from app.routes.responses import REFUSALS
from predictions.token_file import ANYONE

router = APIRouter(tags=["account"], responses=REFUSALS)


class AccountBody(BaseModel):
    """The tenant that a token stands for, or, without tokens, whoever runs this deployment."""

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
async def get_account(tenant: AnyTenant) -> AccountBody:
    """Read the account: the tenant of the token."""
    return ACCOUNT if tenant.owner == ANYONE else AccountBody(type="user", username=tenant.name, name=tenant.name)


@router.get("/hardware")
async def list_hardware(_tenant: AnyTenant) -> list[HardwareBody]:
    """List the hardware; there is one kind."""
    return [HARDWARE]


@router.get("/webhooks/default/secret")
async def get_webhook_secret(tenant: Creator, services: InjectedServices) -> SecretBody:
    """Read the token's current secret, with which the clients' own functions verify webhooks."""
    return SecretBody(key=(await webhook_secrets.read(services, tenant.owner)).key)
