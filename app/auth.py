"""Bearer tokens: whose request it is, whether its token permits it, and whether its turn has come.

A tenant sees only what its own tokens created.
"""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.application import InjectedServices, services_of
from app.rate_headers import note_allowance
from app.services import Services
from app.tokens import TokenExpired
from predictions.errors import RateExceeded
from predictions.rates.commands import Kind
from predictions.tenants import Scope, Tenant

bearer = HTTPBearer(auto_error=False, description="One of the tokens in MUSICGEN_API_TOKENS or MUSICGEN_TOKENS_FILE.")

Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]

TENANT = "musicgen.tenant"
"""The key in an ASGI scope under which the tenant of an admitted request is: it is counted once."""
READING = frozenset({"GET", "HEAD"})
PERMITS = {
    Scope.CREATE: "create, change or delete anything, nor read the webhook secret",
    Scope.READ: "read predictions, files or deliveries",
    Scope.ADMIN: "see what concerns all tenants",
}


async def authenticate(services: Services, credentials: HTTPAuthorizationCredentials | None) -> Tenant:
    """Return the tenant on whose behalf the request comes; raises 401."""
    try:
        tenant = services.tokens.tenant(credentials.credentials if credentials else None)
    except TokenExpired as error:
        raise HTTPException(
            401,
            f"This token expired at {error.expired_at:%Y-%m-%d %H:%M} UTC; ask the operator for another one.",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token", error_description="The token expired"'},
        ) from error
    if tenant is None:
        raise HTTPException(
            401, "Send a valid token: `Authorization: Bearer TOKEN`.", headers={"WWW-Authenticate": "Bearer"}
        )
    return tenant


async def admit_before_body(request: Request) -> None:
    """Admit a request whose body changes something before anything of that body is read.

    Raises 401, 403, RateExceeded.
    """
    await admit(request, services_of(request), await bearer(request), scope_of(request.method))


async def admit(
    request: Request, services: Services, credentials: HTTPAuthorizationCredentials | None, scope: Scope | None
) -> Tenant:
    """Return the request's tenant once its turn has come; `scope`: what its token has to permit.

    Raises 401, 403, RateExceeded.
    """
    admitted: Tenant | None = request.scope.get(TENANT)
    tenant = admitted or await authenticate(services, credentials)
    if scope is not None and scope not in tenant.scopes:
        raise _not_permitted(tenant, scope)
    if admitted is None:
        await _spend(request, services, tenant)
        request.scope[TENANT] = tenant
    return tenant


def scope_of(method: str) -> Scope:
    """Return what a token has to permit for a request by this method."""
    return Scope.READ if method in READING else Scope.CREATE


async def _spend(request: Request, services: Services, tenant: Tenant) -> None:
    """Count the request; raises RateExceeded."""
    kind = Kind.READS if request.method in READING else Kind.CHANGES
    allowance = await services.rates.spend(tenant, kind)
    if allowance is None:
        return
    note_allowance(request.scope, allowance)
    if not allowance.granted:
        raise RateExceeded(f"{tenant.limits.requests_per_second:g}", max(math.ceil(allowance.wait_seconds), 1))


def _not_permitted(tenant: Tenant, scope: Scope) -> HTTPException:
    has = ", ".join(sorted(tenant.scopes))
    return HTTPException(
        403,
        f"This token may not {PERMITS[scope]}: its scopes are {has}. Use a token with the scope {scope}.",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
    )


async def _current(request: Request, services: InjectedServices, credentials: Credentials) -> Tenant:
    return await admit(request, services, credentials, scope_of(request.method))


async def _owner(request: Request, services: InjectedServices, credentials: Credentials) -> str:
    return (await admit(request, services, credentials, scope_of(request.method))).owner


async def _any(request: Request, services: InjectedServices, credentials: Credentials) -> Tenant:
    return await admit(request, services, credentials, None)


async def _creator(request: Request, services: InjectedServices, credentials: Credentials) -> Tenant:
    return await admit(request, services, credentials, Scope.CREATE)


CurrentTenant = Annotated[Tenant, Depends(_current)]
"""Whose request it is; its token permits what the request's method does."""
Owner = Annotated[str, Depends(_owner)]
"""The same tenant's owner."""
AnyTenant = Annotated[Tenant, Depends(_any)]
"""Whose request it is, whatever its token permits: for what is the same for all tenants."""
Creator = Annotated[Tenant, Depends(_creator)]
"""Whose request it is; its token permits changes, even where the request only reads."""
