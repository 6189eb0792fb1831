"""Bearer tokens: an owner sees only what its own token created."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.application import InjectedServices, services_of

bearer = HTTPBearer(auto_error=False, description="One of the tokens in MUSICGEN_API_TOKENS.")

Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def authenticate(services: InjectedServices, credentials: Credentials) -> str:
    """Return the owner on whose behalf the request comes; raises 401."""
    owner = services.tokens.owner(credentials.credentials if credentials else None)
    if owner is None:
        raise HTTPException(
            401, "Send a valid token: `Authorization: Bearer TOKEN`.", headers={"WWW-Authenticate": "Bearer"}
        )
    return owner


Owner = Annotated[str, Depends(authenticate)]


async def admit(request: Request) -> None:
    """Refuse a request without a valid token before anything of its body is read; raises 401."""
    await authenticate(services_of(request), await bearer(request))
