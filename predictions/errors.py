"""The errors of the prediction domain, and the one that ends a process whose settings are wrong.

PredictionError
├── PredictionNotFound      no such prediction, or it belongs to another token
│   └── TrainingNotFound    no such training, or it belongs to another token
├── ModelNotFound           this deployment has no such model
├── FileNotFound            no such uploaded file, or it belongs to another token
├── DeliveryNotFound        the prediction has no such webhook delivery
├── FineTuneExists          a fine-tune's name is taken
├── FineTuneHasVersions     a fine-tune is to be deleted that has versions
├── TooManyFineTunes        the tenant has as many fine-tunes as it may
├── InvalidAdapter          an adapter's files are missing, too large, or not what they should be
├── PredictionExists        PUT with an id that is already taken by another input
├── IdempotencyMismatch     an Idempotency-Key that was used with another body
├── NotRepeatable           it cannot be repeated: it has not ended, or its model or audio is gone
├── InvalidInput            input fields are wrong; carries each field and its remedy
├── StorageLimitReached     what is kept for the tenant leaves no room for more, until some of it is deleted
├── LeaseLost               the worker no longer holds the prediction: another attempt does, or it has ended
├── QueueFull               too many predictions wait; try again later
├── LimitReached            the tenant has used what it may; try again after the seconds that the error carries
│   ├── TooManyWaiting      as many of its predictions wait as may
│   ├── SecondsUsedUp       its seconds of music of this day are used up
│   └── RateExceeded        it sends more requests a second than it may
├── NoModel                 no worker has announced the model yet; try again later
├── NoTrainer               no worker that trains the model has ever announced itself
├── StoreUnavailable        Redis cannot be reached; try again later
│   ├── StoreFull           Redis has no room and refuses writes; nothing was changed
│   └── AcceptanceUnknown   Redis did not answer whether it created the prediction
└── StorageError            object storage failed; try again later
    └── ObjectNotFound      no object under that key

WrongSetting, a SystemExit  a process cannot serve with its settings
"""

from __future__ import annotations

from dataclasses import dataclass

WRONG_SETTING_STATUS = 78
"""The exit status of a process whose settings are wrong (EX_CONFIG): it would end again, were it started again."""


class WrongSetting(SystemExit):
    """A setting is wrong. The message, one line, names the variable and says what to do."""


class PredictionError(Exception):
    """Base of every error that the domain raises on purpose."""


class PredictionNotFound(PredictionError):
    """No prediction of this owner has the id."""


class TrainingNotFound(PredictionNotFound):
    """No training of this owner has the id."""


class ModelNotFound(PredictionError):
    """This deployment has no model of the name."""


class FileNotFound(PredictionError):
    """No uploaded file of this owner has the id."""


class DeliveryNotFound(PredictionError):
    """The prediction has no webhook delivery of the id."""


class FineTuneExists(PredictionError):
    """The name is taken by another fine-tune, or by a model of the registry."""


class FineTuneHasVersions(PredictionError):
    """A fine-tune can be deleted once its versions are."""


class TooManyFineTunes(PredictionError):
    """The tenant has as many fine-tunes as it may."""


class InvalidAdapter(PredictionError):
    """The files of an adapter cannot be used; the message says why."""


class PredictionExists(PredictionError):
    """The id is taken by a prediction with another input."""


class IdempotencyMismatch(PredictionError):
    """The Idempotency-Key was used before with another body."""


class NotRepeatable(PredictionError):
    """A prediction cannot be repeated; the message says why, and what to do."""


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one input field, and what to send instead."""

    field: str
    message: str
    remedy: str


class InvalidInput(PredictionError):
    """One or more input fields are wrong."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors


class StorageLimitReached(PredictionError):
    """What is kept for the tenant leaves no room for more."""

    def __init__(self, limit_mb: float) -> None:
        super().__init__(f"{limit_mb:g}")


class LeaseLost(PredictionError):
    """The worker's fencing token is stale, or the prediction has ended."""


class QueueFull(PredictionError):
    """Too many predictions wait already."""


class LimitReached(PredictionError):
    """A tenant has used what it may for now; `retry_after`: in how many seconds to try again."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyWaiting(LimitReached):
    """As many of the tenant's predictions wait as may."""


class SecondsUsedUp(LimitReached):
    """The tenant's seconds of music of this day are used up."""


class RateExceeded(LimitReached):
    """The tenant sends more requests a second than it may."""


class NoModel(PredictionError):
    """No worker has announced the model yet."""


class NoTrainer(PredictionError):
    """No worker that trains the model has ever announced itself."""


class StoreUnavailable(PredictionError):
    """Redis cannot be reached. Whether it has executed the command is not known."""


class StoreFull(StoreUnavailable):
    """Redis refuses writes because its memory or its disk is full; nothing was changed."""


class AcceptanceUnknown(StoreUnavailable):
    """Redis did not answer whether it created the prediction of this id."""


class StorageError(PredictionError):
    """Object storage failed in a way that may pass."""


class ObjectNotFound(StorageError):
    """Object storage holds nothing under the key."""
