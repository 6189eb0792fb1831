"""Work that needs the storage, done again until the storage answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from predictions.errors import ObjectNotFound, StorageError
from worker.generation.leases import Lease

T = TypeVar("T")

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 2.0, 5.0, 10.0, 20.0)


def until_storage_answers(what: str, work: Callable[[], T], lease: Lease) -> T:
    """Do the work, again and again for the better part of a minute. Raises StorageError, ObjectNotFound, LeaseLost."""
    for delay in RETRY_SECONDS:
        try:
            return work()
        except ObjectNotFound:
            raise
        except StorageError as error:
            logger.warning("%s failed, trying again in %s s: %s", what, delay, error)
            lease.pause(delay)
    return work()
