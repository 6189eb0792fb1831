"""Tenants: who sends requests, what share of the workers is theirs, and what they may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Scope(StrEnum):
    """What a token permits."""

    CREATE = "create"
    """Change what the tenant owns: post, cancel and delete predictions, upload and delete files."""
    READ = "read"
    """See what the tenant owns."""
    ADMIN = "admin"
    """See what concerns all tenants, such as metrics."""


@dataclass(frozen=True)
class Limits:
    """The most that a tenant may use; None: no limit of its own."""

    waiting: int | None = None
    """Predictions that wait."""
    running: int | None = None
    """Predictions that workers hold at once; more of them wait, and are not refused."""
    requests_per_second: float | None = None
    seconds_a_day: float | None = None
    """Seconds of music accepted in 24 hours."""
    stored_mb: float | None = None
    """Megabytes of uploaded files and outputs."""


@dataclass(frozen=True)
class Tenant:
    """The holder of a token. Everything that a token creates belongs to its tenant's `owner`."""

    owner: str
    """Identifies the tenant in records; it tells nothing about the token."""
    name: str
    """For people: shown in logs and metrics."""
    weight: float = 1.0
    """Its share of the workers beside that of others, while they all have work waiting."""
    limits: Limits = field(default_factory=Limits)
    scopes: frozenset[Scope] = frozenset({Scope.CREATE, Scope.READ})
