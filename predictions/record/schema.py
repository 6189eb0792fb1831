"""Everything that stands in Redis, named once: keys, fields, statuses, events, queues, channels and tasks.

Python imports these names, and the type checker holds it to the fields of each hash. The Lua scripts get the same names
as constants (`predictions.record.scripts`), and `tests/predictions/record/test_schema.py` holds them to the fields.

An earlier version's data is read with these names: to change one is to migrate what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from string import Formatter
from typing import Literal, TypedDict


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


class Kind(StrEnum):
    """What kind of work a record is of. All kinds have the same life; a record that names none is a prediction."""

    PREDICTION = "prediction"
    TRAINING = "training"


class EventName(StrEnum):
    """The kinds of events in a prediction's stream. Each member says what the event's data is."""

    STATUS = "status"
    """The new status. A second `starting` means that its worker is thought dead, and another attempt may begin."""
    PROGRESS = "progress"
    """`[completed steps, total steps]`; one event for each percent."""
    LOGS = "logs"
    """The text that was added to the logs."""
    AUDIO = "audio"
    """A `Chunk` that can be read now."""


class WebhookEvent(StrEnum):
    """The moments at which a webhook is sent; the names are Replicate's."""

    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"


class DeliveryState(StrEnum):
    """The state of one webhook's delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Every attempt of the schedule failed."""
    SUPERSEDED = "superseded"
    """A newer webhook carries the same and more."""
    DISABLED = "disabled"
    """The receiver answered 410 Gone."""


class Verdict(StrEnum):
    """What an attempt to deliver a webhook means for the delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    FAILED = "failed"
    GONE = "gone"


class Outcome(StrEnum):
    """How a request to create a prediction ended."""

    CREATED = "created"
    REPLAYED = "replayed"
    """The same request came before; its prediction stands."""
    CONFLICT = "conflict"
    """Another prediction has the id."""
    MISMATCH = "mismatch"
    """The Idempotency-Key came before with another body."""
    FULL = "full"
    """Too many predictions wait already."""
    STORAGE_FULL = "storage_full"
    """As much is kept for the owner already as may be."""
    TENANT_FULL = "tenant_full"
    """As many of the tenant's predictions wait as may."""
    USED_UP = "used_up"
    """The tenant's seconds of music of this day are used up."""


class Cause(StrEnum):
    """Why a prediction failed or was cancelled, as it is counted; one that succeeded has no cause."""

    INPUT = "input"
    """The input asks for what the model cannot do, or for a version that is no longer served."""
    INPUT_AUDIO = "input_audio"
    """The input audio, or a training's dataset, could not be fetched."""
    STORAGE = "storage"
    """The storage refused its audio for too long."""
    DISK = "disk"
    """The worker could not read or write a file."""
    INTERNAL = "internal"
    """A fault of the service."""
    WORKER_DIED = "worker_died"
    """Workers died with it too often."""
    CLIENT = "client"
    """Its client cancelled or deleted it."""
    DEADLINE = "deadline"
    """It had not ended by its deadline."""


class Queue(StrEnum):
    """Celery's queues that have a fixed name; a registry's models have queues named after them."""

    GENERATION = "generation"
    """The queue of the one model that MUSICGEN_MODEL names."""
    TRAININGS = "trainings"
    """Its trainings."""
    WEBHOOKS = "webhooks"


class Task(StrEnum):
    """The Celery tasks."""

    GENERATE = "musicgen.generate"
    DELIVER_WEBHOOK = "musicgen.deliver_webhook"


class Channel(StrEnum):
    """Pub/sub channels. A message is a hint, never the truth: whoever missed it reads the record."""

    ENDED = "musicgen:ended-channel"
    """`{status} {id}` of every prediction that ends."""
    EVENTS = "musicgen:events-channel"
    """The id of every prediction that has a new event."""


class PredictionHash(TypedDict, total=False):
    """A prediction's record, as text. What may be absent is `str | None`; times are seconds since 1970."""

    id: str
    kind: str | None
    """Absent where it is a prediction, as in records of an earlier version."""
    owner: str
    digest: str
    status: str
    attempt: str
    """How often a worker has taken it."""
    lease_token: str | None
    """Random text that its worker made up when it took the prediction; the fencing token of the worker's writes."""
    alone: str | None
    """The text `1` while its worker has worked on nothing else since it took it."""
    suspicions: str | None
    """How often a worker died with it, alone or beside others. Where that is more than 0, it is tried alone."""
    deaths: str | None
    """How often a worker died that worked on it alone."""
    created_at: str
    queue: str
    enqueues: str
    """How often a message was pushed; part of its delivery tag."""
    input: str
    """JSON."""
    model: str
    version: str
    base: str | None
    """The model that its fine-tune changes."""
    base_version: str | None
    base_url: str
    input_file: str | None
    needs_audio: str | None
    """The text `1` where input audio has to be fetched."""
    stream_token: str | None
    live: str | None
    """The text `1`, or absent."""
    rerun_of: str | None
    request_id: str | None
    """The id of the request that created it, for the logs."""
    traceparent: str | None
    """The trace that the request belongs to, as W3C Trace Context writes it; absent where nothing is traced."""
    tenant: str | None
    """The name of its tenant when it was created, for the logs."""
    origin: str | None
    """The id of the prediction at which a chain of reruns began; absent where this is no rerun."""
    wanted_audio_sha256: str | None
    returned_at: str | None
    """When it last began to wait for another attempt; absent where it never did."""
    started_at: str | None
    completed_at: str | None
    progress: str | None
    """JSON: `[completed steps, total steps]`."""
    logs: str
    live_chunks: str | None
    """How many chunks of audio the present attempt has announced."""
    output_key: str | None
    destination: str | None
    """Of a training: the model, owner/name, of which its result becomes a version."""
    output: str | None
    """Of a training: JSON."""
    stored_bytes: str | None
    """The size of its output and of its chunks of audio, which counts as kept for its owner."""
    error: str | None
    metrics: str
    """JSON."""
    provenance: str | None
    """JSON."""
    webhook: str | None
    """The receiver's URL."""
    webhook_host: str | None
    """Its host and port; absent in a record of an earlier version."""
    webhook_events: str | None
    """The events that the client wants, separated by commas."""
    webhook_gone: str | None
    """The text `1` once the receiver has answered 410 Gone."""


class DeliveryHash(TypedDict, total=False):
    """One webhook's delivery, as text; times are seconds since 1970."""

    id: str
    """The webhook-id."""
    prediction: str
    event: str
    state: str
    created_at: str
    due: str
    """The time of the next attempt."""
    token: str
    """Random text that the sender of the last attempt made up."""
    attempts: str
    """Attempts begun so far."""
    tries: str
    """Attempts of the present schedule; a redelivery begins a new one."""


class FileHash(TypedDict, total=False):
    """An uploaded file's record, as text."""

    id: str
    owner: str
    name: str
    content_type: str
    size: str
    """Bytes."""
    stored_bytes: str | None
    """The same, where it counts as kept for its owner; absent in records that are older than the counting."""
    sha256: str
    created_at: str
    metadata: str
    """JSON."""


class FineTuneHash(TypedDict, total=False):
    """A fine-tune's record, as text."""

    name: str
    owner: str
    visibility: str
    description: str | None
    created_at: str


class WebhookSecretHash(TypedDict):
    """Which of an owner's webhook secrets sign, as text. They are numbered from 0; none of them stands here."""

    generation: str
    """The current one's number."""
    oldest: str
    """The number of the oldest one that signs for a while after `rotated_at`."""
    rotated_at: str
    """When the current one took the place of the one before; seconds since 1970."""


class TenantHash(TypedDict, total=False):
    """What the scripts know of a tenant, as text; what is absent is the default."""

    weight: str
    """1 where it is absent."""
    running_limit: str
    """How many predictions may run at once."""


class CountsHash(TypedDict, total=False):
    """How often something happened in a queue since its counts began, as text."""

    accepted: str
    """Predictions that were created."""
    taken: str
    """Attempts: leases that workers were given."""
    reaped: str
    """Leases that ran out: their workers are taken for dead."""
    resumed: str
    """Leases that ran out, and whose worker turned out to be alive."""


class IdempotencyHash(TypedDict):
    """The request that came with an Idempotency-Key."""

    id: str
    digest: str


class EventEntry(TypedDict):
    """One entry of a prediction's stream of events."""

    event: str
    data: str


@dataclass(frozen=True)
class Name:
    """A name with parameters in braces."""

    template: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, in order."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.template) if name)

    def __call__(self, *values: str | int) -> str:
        """The name with these values in the place of its parameters."""
        return self.template.format(**dict(zip(self.parameters, values, strict=True)))


class Field:
    """The fields whose names have parameters."""

    webhook_count = Name("webhooks:{event}")
    """How many webhooks of a numbered event a prediction has owed."""
    webhook_sent = Name("webhook_sent:{event}")
    """When the last attempt at a webhook of a numbered event began."""
    attempt_started = Name("started:{number}")
    attempt_outcome = Name("outcome:{number}")
    """JSON: status, error and seconds."""
    ended = Name("ended:{status}:{cause}")
    """How many predictions ended like that."""
    step_seconds = Name("step:{requests}")
    """A decoding step that this many requests share."""
    other_seconds = Name("beside:{decoder}")
    """The work on a second of music that is not decoding steps, with this decoder: codec or diffusion."""


@dataclass(frozen=True)
class Key(Name):
    """A key, or a family of keys: one for each value of its parameters."""

    kind: Literal["hash", "list", "set", "sorted set", "stream", "string"]
    fields: type | None = None
    """The fixed fields of a hash or of a stream's entries."""
    named: tuple[Name, ...] = ()
    """The fields of a hash whose names have parameters."""


class Keys:
    """Every key."""

    prediction = Key("musicgen:prediction:{id}", "hash", PredictionHash, (Field.webhook_count, Field.webhook_sent))
    """The record; the truth."""
    events = Key("musicgen:events:{id}", "stream", EventEntry)
    """A prediction's events, for whoever follows it."""
    owner = Key("musicgen:owner:{owner}", "sorted set")
    """An owner's predictions, by the time of their creation."""
    owner_trainings = Key("musicgen:owner-trainings:{owner}", "sorted set")
    """The same of an owner's trainings."""
    idempotency = Key("musicgen:idempotency:{owner}:{key}", "hash", IdempotencyHash)
    offered = Key("musicgen:offered:{owner}:{digest}", "list")
    """Ids of predictions whose answer was lost, for the next identical requests."""
    chosen = Key("musicgen:chosen:{token}", "string")
    """The id that a command with this token chose. Repeated because its answer was lost, it chooses that one again."""

    queues = Key("musicgen:queues", "set")
    """The queues that workers have served or that predictions were put in."""
    waiting = Key("musicgen:waiting:{queue}", "hash")
    """Of each id that waits in a queue, the seconds of music it asks for. The Celery message is only a hint."""
    waiting_since = Key("musicgen:waiting-since:{queue}", "sorted set")
    """The same ids, by the time since which each waits."""
    tenant_waiting = Key("musicgen:tenant-waiting:{queue}:{owner}", "sorted set")
    """A tenant's ids that wait for their first attempt: by priority, then by the time of their creation."""
    tenant_queues = Key("musicgen:tenant-queues:{owner}", "set")
    """The queues in which a tenant has such ids."""
    returned = Key("musicgen:returned:{queue}", "sorted set")
    """Ids that wait for another attempt, by the time of their creation. They are before all others."""
    turns = Key("musicgen:turns:{queue}", "sorted set")
    """The tenants that wait for their turn, by virtual time: those with ids of which one may start."""
    virtual_time = Key("musicgen:virtual-time:{queue}", "string")
    """The virtual time of the tenant that had its turn last, before it had it."""
    served = Key("musicgen:served:{queue}", "sorted set")
    """Tenants by virtual time, as far as it is later than the queue's own."""
    tenant = Key("musicgen:tenant:{owner}", "hash", TenantHash)
    tenant_running = Key("musicgen:tenant-running:{owner}", "set")
    """A tenant's ids that have been taken and have not ended; those that wait for another attempt are among them."""
    accepted = Key("musicgen:accepted:{owner}", "hash")
    """Of each of the last hours, counted since 1970, a limited tenant's accepted seconds of music."""
    deadlines = Key("musicgen:deadlines", "sorted set")
    """Ids that are cancelled unless they have ended by then, by that time."""
    queued = Key("musicgen:queued:{queue}", "sorted set")
    """Ids that a version without tenants put there, by the time of their creation; workers move them to `waiting`."""
    running = Key("musicgen:running:{queue}", "set")
    """Ids that run."""
    leases = Key("musicgen:leases", "sorted set")
    """Ids that run, by the time at which their lease ends."""
    ended = Key("musicgen:ended", "sorted set")
    """Ids that have ended, by the time of their end."""

    webhooks = Key("musicgen:webhooks:{owner}:{host}", "sorted set")
    """A lane: webhook-ids of one owner's pending deliveries to one host, by the time of their next attempt."""
    webhook_hosts = Key("musicgen:webhook-hosts:{owner}", "sorted set")
    """The hosts of an owner's lanes, by the first time in each lane."""
    webhook_owners = Key("musicgen:webhook-owners", "sorted set")
    """The owners of pending deliveries, by the first time in their lanes. Workers look here for what is due."""
    all_webhooks = Key("musicgen:webhooks", "sorted set")
    """Webhook-ids of an earlier version's pending deliveries, by the time of their next attempt."""
    delivery = Key(
        "musicgen:delivery:{webhook_id}", "hash", DeliveryHash, (Field.attempt_started, Field.attempt_outcome)
    )
    """One webhook to be delivered, and every attempt at it."""
    deliveries = Key("musicgen:deliveries:{id}", "list")
    """Webhook-ids of a prediction's deliveries, oldest first."""

    file = Key("musicgen:file:{id}", "hash", FileHash)
    files = Key("musicgen:files", "sorted set")
    """Ids of uploaded files, by the time of their upload."""
    owner_files = Key("musicgen:owner-files:{owner}", "sorted set")
    """The same, of one owner."""

    fine_tune = Key("musicgen:fine-tune:{name}", "hash", FineTuneHash)
    fine_tune_versions = Key("musicgen:fine-tune-versions:{name}", "hash")
    """A fine-tune's versions as JSON, by their ids."""
    owner_fine_tunes = Key("musicgen:owner-fine-tunes:{owner}", "set")
    """The names of an owner's fine-tunes."""
    public_fine_tunes = Key("musicgen:public-fine-tunes", "set")
    """The names of those that every tenant may use."""
    adapter = Key("musicgen:adapter:{id}", "set")
    """The names of the fine-tunes that have an adapter as a version."""

    stored = Key("musicgen:stored:{owner}", "string")
    """How many bytes of files, outputs and adapters are kept for an owner."""
    rate = Key("musicgen:rate:{owner}:{kind}", "string")
    """When an owner's bucket for one kind of requests will be full again."""
    rate_answer = Key("musicgen:rate-answer:{token}", "string")
    """JSON: what was answered to the command with this token, should it be repeated."""
    webhook_secret = Key("musicgen:webhook-secret:{owner}", "hash", WebhookSecretHash)

    counts = Key("musicgen:counts:{queue}", "hash", CountsHash, (Field.ended,))
    """What the metrics count: here, because it happens in scripts, and once whoever dies and whatever is repeated."""
    probe = Key("musicgen:probe", "string")
    """When somebody last tried whether Redis takes writes."""

    cards = Key("musicgen:cards", "hash")
    """Of each queue, what its workers announced last, as JSON."""
    workers = Key("musicgen:workers:{queue}", "sorted set")
    """Names of live workers, by the time at which their last sign of life expires."""
    throughput = Key("musicgen:pace:{queue}:{version}", "hash", None, (Field.step_seconds, Field.other_seconds))
    """How fast a model's workers were lately, in seconds."""
