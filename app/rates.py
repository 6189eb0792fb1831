"""The rate at which a tenant's requests are answered. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from predictions.rates import commands
from predictions.rates.commands import Allowance, Kind
from predictions.record.prediction import new_id
from predictions.record.store import AsyncPredictionStore
from predictions.tenants import Tenant

READ_PATIENCE_SECONDS = 2.0
"""The longest that an answer to whoever polls is held back. Clients wait at least five seconds for an answer."""


class Rates:
    """Counts the requests of those tenants that have a limit; for others there is nothing to do."""

    def __init__(self, store: AsyncPredictionStore) -> None:
        self._store = store

    async def spend(self, tenant: Tenant, kind: Kind) -> Allowance | None:
        """Count a request, and return what its tenant has left; None where the tenant has no limit.

        A read over the limit is held back until its turn, for two seconds at most, and then granted all the same:
        clients that poll take a refusal for the end. Any other request over the limit is not granted.
        """
        per_second = tenant.limits.requests_per_second
        if per_second is None:
            return None
        patience = READ_PATIENCE_SECONDS if kind is Kind.READS else 0.0
        allowance = await self._store.run(
            commands.spend(tenant.owner, kind, new_id(), per_second=per_second, patience_seconds=patience)
        )
        if kind is not Kind.READS:
            return allowance
        await asyncio.sleep(min(allowance.wait_seconds, READ_PATIENCE_SECONDS))
        return replace(allowance, granted=True)
