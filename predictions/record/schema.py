"""Everything that stands in Redis: keys, fields, statuses and queue names, for Python and for the Lua scripts alike.

Python reads and writes hashes as the typed dictionaries below, so that mypy knows a field that does not exist; the
scripts get the same names from `as_lua`, and `tests/predictions/record/test_schema.py` holds every script to them.
The names are those that version 0.1.0 wrote, `pace` among them: stored data outlives a release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NotRequired, TypedDict

GENERATION_QUEUE = "generation"
"""The queue of the one model that MUSICGEN_MODEL names; for a registry's models see `predictions.models.registry`."""
WEBHOOK_QUEUE = "webhooks"


class Status(StrEnum):
    """The five states of a prediction; the names are those of Replicate's clients."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        """Whether the prediction has ended."""
        return self in TERMINAL


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})


class Outcome(StrEnum):
    """What became of a request to create a prediction."""

    CREATED = "created"
    REPLAYED = "replayed"
    """The same request came before; its prediction stands."""
    CONFLICT = "conflict"
    """The id is taken by another prediction."""
    MISMATCH = "mismatch"
    """The Idempotency-Key came before with another body."""
    FULL = "full"
    """Too many predictions wait already."""


class EventName(StrEnum):
    """What an event tells of; its data in words."""

    STATUS = "status"
    """The new status. `starting` once more: a worker died, and the next attempt begins anew."""
    PROGRESS = "progress"
    """[steps done, steps in all]; one for each percent."""
    LOGS = "logs"
    """The text that was added to the logs."""
    AUDIO = "audio"
    """A `Chunk` can be read."""


class WebhookEvent(StrEnum):
    """The moments at which a webhook is sent; the names are Replicate's."""

    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"


class DeliveryState(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Not taken in any attempt of the schedule."""
    SUPERSEDED = "superseded"
    """A newer webhook says the same and more."""
    DISABLED = "disabled"
    """The receiver answered 410."""


class Verdict(StrEnum):
    """What follows from an attempt to deliver a webhook."""

    DELIVERED = "delivered"
    RETRY = "retry"
    FAILED = "failed"
    GONE = "gone"


class PredictionRequestFields(TypedDict):
    """The fields of a prediction that its request determines."""

    id: str
    owner: str
    digest: str
    """Tells a repetition of the request from another one."""
    input: str
    """JSON."""
    model: NotRequired[str]
    version: str
    queue: NotRequired[str]
    base_url: str
    input_file: NotRequired[str]
    stream_token: NotRequired[str]
    live: NotRequired[str]
    """"1", or not there."""
    rerun_of: NotRequired[str]
    wanted_audio_sha256: NotRequired[str]
    webhook: NotRequired[str]
    """URL."""
    webhook_events: NotRequired[str]
    """Names of webhook events, separated by commas."""


class PredictionResultFields(TypedDict, total=False):
    """The fields of a prediction that its worker writes."""

    progress: str
    """JSON: [steps done, steps in all]."""
    logs: str
    output_key: str
    error: str
    metrics: str
    """JSON."""
    provenance: str
    """JSON."""


class PredictionFields(PredictionRequestFields, PredictionResultFields):
    """`prediction`: the record. Times are seconds since 1970, by Redis's clock."""

    status: str
    attempt: str
    """Counts the claims; the number is the fencing token of a lease."""
    created_at: str
    started_at: NotRequired[str]
    completed_at: NotRequired[str]
    enqueues: NotRequired[str]
    """How many messages were sent for it; tells them apart."""
    enqueued_at: NotRequired[str]
    webhook_gone: NotRequired[str]
    """"1" once the receiver has answered 410."""


PREDICTION_PATTERNS = ("webhook_sent:{event}", "webhooks:{event}")
"""Further fields of a prediction: when a numbered webhook of that event was last sent, and how many were owed."""


class DeliveryFields(TypedDict):
    """`delivery`: one webhook to be delivered."""

    id: str
    prediction: str
    event: str
    state: str
    created_at: str
    due: str
    """When the next attempt falls due."""
    attempts: str
    tries: str
    """Attempts of the present schedule; sending again by hand begins a new one."""


DELIVERY_PATTERNS = ("started:{number}", "outcome:{number}")
"""Further fields of a delivery, for each attempt: when it began, and as JSON how it ended."""


class NewFileFields(TypedDict):
    """The fields of an uploaded file that its request determines."""

    id: str
    owner: str
    name: str
    content_type: str
    size: str
    sha256: str
    metadata: NotRequired[str]
    """JSON."""


class FileFields(NewFileFields):
    """`file`: an uploaded file."""

    created_at: str


class IdempotencyFields(TypedDict):
    """`idempotency`: what an Idempotency-Key stands for."""

    id: str
    digest: str


class EventFields(TypedDict):
    """`events`: one entry of a prediction's stream."""

    event: str
    data: str


THROUGHPUT_PATTERNS = ("step:{together}", "beside:{decoder}")
"""The fields of `throughput`, see `predictions.estimates.throughput`."""


@dataclass(frozen=True)
class Key:
    """A key of Redis, or a pattern of keys with parameters in braces."""

    pattern: str
    kind: Literal["hash", "list", "set", "sorted set", "stream"]
    holds: str
    fields: type | None = None
    """The typed dictionary of a hash or of a stream's entries."""
    patterns: tuple[str, ...] = ()
    """Fields whose names have parameters."""

    @property
    def parameters(self) -> list[str]:
        """The names in braces, in order."""
        return re.findall(r"{(\w+)}", self.pattern)

    def knows(self, field: str) -> bool:
        """Whether a field, or the part of its name before a parameter, belongs to the hash."""
        names = set() if self.fields is None else set(self.fields.__annotations__)
        return field in names | {pattern[: pattern.index("{")] for pattern in self.patterns}


KEYS = {
    "prediction": Key(
        "musicgen:prediction:{id}", "hash", "the record; the truth", PredictionFields, PREDICTION_PATTERNS
    ),
    "events": Key("musicgen:events:{id}", "stream", "its events, for whoever follows it", EventFields),
    "owner": Key("musicgen:owner:{owner}", "sorted set", "an owner's predictions by creation time"),
    "queues": Key("musicgen:queues", "set", "the queues that generate, one a model"),
    "queued": Key("musicgen:queued:{queue}", "sorted set", "ids that wait in a queue, by creation time"),
    "leases": Key("musicgen:leases", "sorted set", "ids that run, by the time their lease ends"),
    "running": Key("musicgen:running:{queue}", "set", "those of one queue"),
    "ended": Key("musicgen:ended", "sorted set", "ids that have ended, by the time they did"),
    "idempotency": Key(
        "musicgen:idempotency:{owner}:{key}", "hash", "what an Idempotency-Key stands for", IdempotencyFields
    ),
    "offered": Key(
        "musicgen:offered:{owner}:{digest}", "list", "ids whose answer was lost, for the next identical request"
    ),
    "webhooks": Key("musicgen:webhooks", "sorted set", "pending deliveries, by the time of their next message"),
    "delivery": Key(
        "musicgen:delivery:{delivery}", "hash", "one webhook, every attempt at it", DeliveryFields, DELIVERY_PATTERNS
    ),
    "deliveries": Key("musicgen:deliveries:{id}", "list", "the deliveries of a prediction, oldest first"),
    "file": Key("musicgen:file:{id}", "hash", "an uploaded file's record", FileFields),
    "files": Key("musicgen:files", "sorted set", "uploaded files by upload time"),
    "owner_files": Key("musicgen:owner-files:{owner}", "sorted set", "those of one owner"),
    "cards": Key("musicgen:cards", "hash", "by queue, the model card that its workers announced last"),
    "throughput": Key(
        "musicgen:pace:{queue}:{version}", "hash", "how fast a model's workers were", patterns=THROUGHPUT_PATTERNS
    ),
    "workers": Key("musicgen:workers:{queue}", "sorted set", "live workers, by the time their sign of life expires"),
}
"""By the name under which the scripts know it. Beside these there are Celery's lists, one for each queue."""

EVENTS_CHANNEL = "musicgen:events-channel"
"""Where the id of every prediction with a new event is published: a hint, never the truth."""
ENDED_CHANNEL = "musicgen:ended-channel"
"""Where "{status} {id}" of every prediction that ends is published: a hint, never the truth."""


def as_lua() -> str:
    """The same names as Lua tables; reading one that does not exist is an error there.

    KEY.leases is a key, KEY.prediction(id) makes one.
    """
    names: dict[str, dict[str, str]] = {
        "KEY": {name: _key_as_lua(key) for name, key in KEYS.items()},
        "CHANNEL": {"events": _quoted(EVENTS_CHANNEL), "ended": _quoted(ENDED_CHANNEL)},
        "QUEUE": {"generation": _quoted(GENERATION_QUEUE), "webhooks": _quoted(WEBHOOK_QUEUE)},
        "STATUS": _members(Status),
        "OUTCOME": _members(Outcome),
        "EVENT": _members(EventName),
        "WEBHOOK_EVENT": _members(WebhookEvent),
        "DELIVERY": _members(DeliveryState),
        "VERDICT": _members(Verdict),
    }
    tables = [f"local {table} = named('{table}', {_table(members)})" for table, members in names.items()]
    terminal = {status.value: "true" for status in sorted(TERMINAL)}
    return "\n".join([_NAMED, *tables, f"local TERMINAL = {_table(terminal)}", ""])


_NAMED = """\
local function named(table, members)
  return setmetatable(members, {
    __index = function(_, name) error(table .. ' has no ' .. tostring(name)) end,
  })
end
"""


def _key_as_lua(key: Key) -> str:
    if not key.parameters:
        return _quoted(key.pattern)
    parts = [part for part in re.split(r"({\w+})", key.pattern) if part]
    joined = " .. ".join(part[1:-1] if part.startswith("{") else _quoted(part) for part in parts)
    return f"function({', '.join(key.parameters)}) return {joined} end"


def _members(values: Iterable[StrEnum]) -> dict[str, str]:
    return {value.value: _quoted(value) for value in values}


def _table(members: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {value}" for name, value in members.items()) + " }"


def _quoted(text: str) -> str:
    return f"'{text}'"
