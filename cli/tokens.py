"""Make, list and revoke the tokens in the file that MUSICGEN_TOKENS_FILE names.

A running API learns of it with its next request, within a second or two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cli.terminal import print_table
from predictions import token_file
from predictions.settings import load_settings
from predictions.tenants import Scope
from predictions.token_file import LimitsEntry, TenantEntry, TokenEntry, TokenFileError

COLUMNS = ("ID", "TENANT", "WEIGHT", "LIMITS", "SCOPES", "CREATED", "EXPIRES")


def create(name: str, scopes: Sequence[Scope], expires_at: datetime | None, tenant: Mapping[str, float]) -> int:
    """Make a token and print it, alone, to standard output; what there is to know of it goes to standard error.

    `tenant`: the weight and the limits that the tenant gets, by their names; others stay as they are.
    """
    with _plain_errors(), token_file.changing(_path()) as file:
        token = file.add(name, scopes=list(scopes), expires_at=expires_at, tenant=tenant)
        entry = file.tenants[name]
    print(token)
    print(
        f"The token is shown this once. Tenant {name}: {len(entry.tokens)} token(s), weight {entry.weight:g}, "
        f"{_limits(entry.limits)}.",
        file=sys.stderr,
    )
    return 0


def show() -> int:
    """Print the tokens, without their secrets."""
    with _plain_errors():
        file = token_file.read(_path())
    rows = [
        _row(name, tenant, token_id, token)
        for name, tenant in sorted(file.tenants.items())
        for token_id, token in sorted(tenant.tokens.items(), key=lambda item: item[1].created_at)
    ]
    print_table([COLUMNS, *rows])
    return 0


def revoke(token_id: str) -> int:
    """Have a token accepted no longer. Its tenant stays, with what it owns."""
    with _plain_errors(), token_file.changing(_path()) as file:
        name = file.remove(token_id)
        if name is None:
            raise TokenFileError(f"There is no token {token_id}; `musicgen token list` lists them")
    print(f"Token {token_id} of {name} is revoked.")
    return 0


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what is wrong with the file or the arguments into one line; raises SystemExit."""
    try:
        yield
    except TokenFileError as error:
        raise SystemExit(f"musicgen token: {error}") from None


def _path() -> Path:
    path = load_settings().tokens_file
    if path is None:
        raise SystemExit("Set MUSICGEN_TOKENS_FILE to the file that is to hold the tokens, for the API too.")
    return path


def _row(name: str, tenant: TenantEntry, token_id: str, token: TokenEntry) -> tuple[str, ...]:
    expires = "never" if token.expires_at is None else f"{token.expires_at:%Y-%m-%d %H:%M}"
    if token.has_expired(datetime.now(UTC)):
        expires += " (expired)"
    scopes = ",".join(token.scopes)
    created = f"{token.created_at:%Y-%m-%d %H:%M}"
    return token_id, name, f"{tenant.weight:g}", _limits(tenant.limits), scopes, created, expires


def _limits(limits: LimitsEntry) -> str:
    given = limits.model_dump(exclude_none=True)
    return ",".join(f"{name}={value:g}" for name, value in given.items()) or "no limits"
