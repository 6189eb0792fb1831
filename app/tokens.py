"""Whose token is whose. A token itself is neither stored nor logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from predictions import token_file
from predictions.tenants import Scope, Tenant
from predictions.token_file import ANYONE, Holder, TokenFile, TokenFileError, digest, plain_tenant

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""How often the file of tokens is looked at."""
EVERYTHING = Tenant(ANYONE, ANYONE, scopes=frozenset(Scope))
"""Whoever comes where the service runs without tokens."""


class TokenExpired(Exception):
    """The token was accepted until some time ago."""

    def __init__(self, expired_at: datetime) -> None:
        super().__init__(expired_at)
        self.expired_at = expired_at


class Tokens:
    """The tokens that the service accepts, and the tenant that each stands for: those of a list, and those of a file.

    The file is read again when it changes. One that cannot be read leaves those in force that it named last; at the
    start it raises WrongSetting.
    """

    def __init__(self, tokens: Sequence[SecretStr] = (), file: Path | None = None) -> None:
        self._plain = [digest(token.get_secret_value()) for token in tokens]
        self._file = file
        self._version = _version(file) if file else None
        """What the file looked like when it was last read."""
        self._checked_at = time.monotonic()
        self._accept(token_file.require_readable(file))

    def tenant(self, token: str | None) -> Tenant | None:
        """Return the tenant that the token stands for, or None where it is not accepted; raises TokenExpired."""
        if not self._plain and self._file is None:
            return EVERYTHING
        self._refresh()
        holder = self._holders.get(digest(token)) if token else None
        if holder is None:
            return None
        if holder.expires_at is not None and holder.expires_at <= datetime.now(UTC):
            raise TokenExpired(holder.expires_at)
        return holder.tenant

    def tenant_of(self, owner: str) -> Tenant:
        """Return the tenant of this owner, as its limits stand; one whose tokens are gone has none."""
        return self._tenants.get(owner, EVERYTHING if owner == ANYONE else Tenant(owner, owner))

    def _accept(self, file: TokenFile) -> None:
        tenants = file.by_owner()
        plain = {sha256: Holder(plain_tenant(sha256), None) for sha256 in self._plain}
        # A tenant of the file may have taken over the records of a token of the list; it is then the token's tenant.
        adopted = {
            sha256: Holder(tenants.get(holder.tenant.owner, holder.tenant), None) for sha256, holder in plain.items()
        }
        self._holders = {**adopted, **file.holders()}
        self._tenants = {**{holder.tenant.owner: holder.tenant for holder in plain.values()}, **tenants}

    def _refresh(self) -> None:
        if self._file is None or time.monotonic() - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = time.monotonic()
        # Before it is read: a change in between is seen the next time.
        version = _version(self._file)
        if version == self._version:
            return
        self._version = version
        try:
            self._accept(token_file.read(self._file))
        except TokenFileError as error:
            logger.error("The tokens stay as they were: %s", error)
        else:
            logger.info("%s was read again", self._file)


def _version(file: Path) -> object:
    try:
        found = file.stat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_mtime_ns, found.st_size
