"""Whose token is whose. A token itself is neither stored nor logged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydantic import SecretStr

ANYONE = "anyone"
"""The owner of everything where the service runs without tokens."""


class Tokens:
    """The tokens that the service accepts, and the owner that each stands for."""

    def __init__(self, tokens: Sequence[SecretStr]) -> None:
        # Looked up by digest: the time a look-up takes tells nothing about the token.
        self._digests = {_digest(token.get_secret_value()) for token in tokens}

    def owner(self, token: str | None) -> str | None:
        """Return the owner that the token stands for, or None where it is not accepted."""
        if not self._digests:
            return ANYONE
        digest = _digest(token) if token else ""
        return digest[:32] if digest in self._digests else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
