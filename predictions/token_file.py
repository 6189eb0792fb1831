"""The file of tenants and their tokens: read by the API, written by `musicgen token`, and by people.

    {"tenants": {"ann": {"weight": 2.0,
                         "limits": {"requests_per_second": 5.0},
                         "tokens": {"k3j2h1g0": {"sha256": "...", "scopes": ["create", "read"],
                                                 "created_at": "2026-11-27T12:00:00Z"}}}}}

A token is `mg_{id}_{secret}`. The file has its SHA-256 and never the token itself: a secret of 40 random characters
needs no slower hash. Weight and limits are a tenant's, so that its tokens cannot disagree about them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from predictions.errors import WrongSetting
from predictions.tenants import Limits, Scope, Tenant

ANYONE = "anyone"
"""The owner of everything where the service runs without tokens."""

PREFIX = "mg_"
"""How every token begins that this service made up, so that a token that has leaked is recognized."""
OWNER_LENGTH = 32
TENANT_OWNER = "tenant-"
"""How the owner of a tenant begins that has no owner of its own choice."""

_ID_ALPHABET = string.ascii_lowercase + string.digits
_SECRET_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH, _SECRET_LENGTH = 8, 40

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
TokenId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,32}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TokenFileError(ValueError):
    """The file cannot be read or does not say what it should; the message is one line and names the file."""


class _Entry(BaseModel):
    # What is no number is written as such, and refused when it is read; null would stand for no limit.
    model_config = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="constants")


class LimitsEntry(_Entry):
    """A tenant's limits; what is left out has none."""

    waiting: Annotated[int, Field(ge=0)] | None = None
    running: Annotated[int, Field(ge=1)] | None = None
    requests_per_second: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = None
    seconds_a_day: Positive | None = None
    stored_mb: Positive | None = None


class TokenEntry(_Entry):
    """One token of a tenant."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None

    def has_expired(self, now: datetime) -> bool:
        """Whether it is accepted no longer."""
        return self.expires_at is not None and self.expires_at <= now


class TenantEntry(_Entry):
    """A tenant: its share, its limits, and its tokens by their ids."""

    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    owner: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Whose records it sees, where that is not derived from its name: those of a token of the plain list."""
    limits: LimitsEntry = Field(default_factory=LimitsEntry)
    tokens: dict[TokenId, TokenEntry] = Field(default_factory=dict)


@dataclass(frozen=True)
class Holder:
    """Whom a token stands for, and until when."""

    tenant: Tenant
    expires_at: datetime | None


class TokenFile(_Entry):
    """All tenants, by their names."""

    tenants: dict[Name, TenantEntry] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_nothing_twice(self) -> Self:
        tokens = [(name, *item) for name, tenant in self.tenants.items() for item in tenant.tokens.items()]
        for what, values in (
            ("token id", [token_id for _, token_id, _ in tokens]),
            ("sha256", [token.sha256 for _, _, token in tokens]),
            ("owner", [tenant.owner for tenant in self.tenants.values() if tenant.owner]),
        ):
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"the {what} {min(twice)} stands in it twice")
        return self

    def holders(self) -> dict[str, Holder]:
        """The holder of each token, by the token's SHA-256."""
        return {
            token.sha256: Holder(replace(_tenant(name, entry), scopes=frozenset(token.scopes)), token.expires_at)
            for name, entry in self.tenants.items()
            for token in entry.tokens.values()
        }

    def by_owner(self) -> dict[str, Tenant]:
        """Every tenant, those without a token too, with the scopes that a token has by default."""
        listed = (_tenant(name, entry) for name, entry in self.tenants.items())
        return {tenant.owner: tenant for tenant in listed}

    def add(
        self,
        name: str,
        *,
        scopes: list[Scope],
        expires_at: datetime | None = None,
        tenant: Mapping[str, float] | None = None,
    ) -> str:
        """Make a token of the tenant, and the tenant where it is new; returns the token.

        `tenant`: the weight and the limits that the tenant gets, by their names.
        """
        token_id, secret = _random(_ID_ALPHABET, _ID_LENGTH), _random(_SECRET_ALPHABET, _SECRET_LENGTH)
        token = f"{PREFIX}{token_id}_{secret}"
        entry = TokenEntry(sha256=digest(token), scopes=scopes, created_at=_now(), expires_at=expires_at)
        holder = self.tenants.setdefault(name, TenantEntry())
        holder.tokens[token_id] = entry
        for field, value in (tenant or {}).items():
            setattr(holder if field == "weight" else holder.limits, field, value)
        return token

    def remove(self, token_id: str) -> str | None:
        """Forget a token; returns its tenant's name, None where there is no such token. The tenant stays."""
        for name, tenant in self.tenants.items():
            if tenant.tokens.pop(token_id, None) is not None:
                return name
        return None


def digest(token: str) -> str:
    """The SHA-256 by which a token is looked up: the time that takes tells nothing about the token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def plain_tenant(sha256: str) -> Tenant:
    """The tenant that a token of the plain list stands for, by its SHA-256."""
    owner = sha256[:OWNER_LENGTH]
    # Not a part of the digest: names are logged.
    return Tenant(owner, f"token-{hashlib.sha256(owner.encode()).hexdigest()[:8]}")


def is_of_plain_list(owner: str) -> bool:
    """Whether the owner's records began with a token of the plain list."""
    return re.fullmatch(f"[0-9a-f]{{{OWNER_LENGTH}}}", owner) is not None


def parse(text: str | bytes, path: Path) -> TokenFile:
    """Read the file's text; raises TokenFileError."""
    try:
        return TokenFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        message = first["msg"].removeprefix("Value error, ")
        raise TokenFileError(f"{path}: {place}: {message}" if place else f"{path}: {message}") from None


def read(path: Path) -> TokenFile:
    """Read the file; raises TokenFileError."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise TokenFileError(f"{path} does not exist: `musicgen token create NAME` makes it") from None
    except OSError as error:
        raise TokenFileError(f"{path} cannot be read: {error.strerror}") from None
    return parse(text, path)


def require_readable(path: Path | None) -> TokenFile:
    """What the file says, nothing where there is none; raises WrongSetting where it cannot be read."""
    try:
        return TokenFile() if path is None else read(path)
    except TokenFileError as error:
        raise WrongSetting(f"Wrong setting: MUSICGEN_TOKENS_FILE: {error}") from None


@contextmanager
def changing(path: Path) -> Iterator[TokenFile]:
    """Yield what the file says, empty where there is no file, and write what has been made of it.

    One writer at a time; a reader sees the file as it was or as it will be. Nothing is written after an exception.
    Raises TokenFileError.
    """
    path = path.resolve()
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TokenFileError(f"{path.parent} cannot be written to: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = read(path) if path.exists() else TokenFile()
        yield file
        text = file.model_dump_json(indent=2, exclude_defaults=True) + "\n"
        parse(text, path)
        _replace(path, text)
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    try:
        # What a writer left that was killed; the lock is ours.
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        with suppress(OSError):
            _sync_folder(path.parent)
    except OSError as error:
        raise TokenFileError(f"{path} cannot be written: {error.strerror}") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tenant(name: str, entry: TenantEntry) -> Tenant:
    return Tenant(entry.owner or _owner(name), name, entry.weight, Limits(**entry.limits.model_dump()))


def _owner(name: str) -> str:
    return TENANT_OWNER + hashlib.sha256(name.encode()).hexdigest()[: OWNER_LENGTH - len(TENANT_OWNER)]


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
