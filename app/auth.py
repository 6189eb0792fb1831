"""Bearer tokens. A token's owner sees only its own predictions; the token itself is neither stored nor logged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

ANYONE = "anyone"
"""The owner of everything where the service runs without tokens."""

bearer = HTTPBearer(auto_error=False, description="One of the tokens in MUSICGEN_API_TOKENS.")


class Tokens:
    """The tokens that are let in."""

    def __init__(self, tokens: Sequence[SecretStr]) -> None:
        # Looked up by digest: the time a look-up takes tells nothing about the token.
        self._owners = {_digest(token.get_secret_value()): None for token in tokens}

    def owner(self, token: str | None) -> str | None:
        """The owner that the token stands for, or None where it is not let in."""
        if not self._owners:
            return ANYONE
        digest = _digest(token) if token else ""
        return digest[:32] if digest in self._owners else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def authenticate(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> str:
    """The owner on whose behalf the request comes; raises 401."""
    tokens: Tokens = request.app.state.services.tokens
    owner = tokens.owner(credentials.credentials if credentials else None)
    if owner is None:
        raise HTTPException(
            401, "Send a valid token: `Authorization: Bearer TOKEN`.", headers={"WWW-Authenticate": "Bearer"}
        )
    return owner


Owner = Annotated[str, Depends(authenticate)]
