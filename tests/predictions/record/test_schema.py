"""The schema: the names of today, the constants of the scripts, and every script and command held to it."""

from __future__ import annotations

import hashlib
import inspect
from enum import StrEnum
from importlib import resources
from typing import Any

import pytest
from redis.exceptions import ResponseError

from predictions.estimates import forecast, throughput
from predictions.files import commands as file_commands
from predictions.fine_tunes import commands as fine_tune_commands
from predictions.fine_tunes.record import Version, Visibility
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.observability import queues
from predictions.rates import commands as rates
from predictions.record import commands, messages
from predictions.record.command import Command
from predictions.record.events import Chunk
from predictions.record.prediction import NewPrediction, Progress, now
from predictions.record.schema import (
    TERMINAL,
    Cause,
    Channel,
    CountsHash,
    DeliveryHash,
    DeliveryState,
    EventName,
    Field,
    FileHash,
    FineTuneHash,
    IdempotencyHash,
    Keys,
    Kind,
    Name,
    PredictionHash,
    Queue,
    Status,
    Task,
    TenantHash,
    WebhookEvent,
    WebhookSecretHash,
)
from predictions.record.scripts import PRELUDES, render_schema, source
from predictions.record.store import PredictionStore
from predictions.webhooks import deliveries, secrets
from predictions.webhooks.deliveries import DueDelivery, StartedAttempt, Verdict
from tests.predictions.record.lua_checker import check

MODULES = (
    commands,
    file_commands,
    fine_tune_commands,
    announcements,
    throughput,
    forecast,
    deliveries,
    secrets,
    rates,
    queues,
)
NEW = NewPrediction(
    id="one", owner="ann", digest="d", input={}, model="m", version="v", queue="generation", base_url="http://host"
)
CARD = Announcement(name="a/a", version="1", melody=False, channels=1, sample_rate=1, max_duration=1, concurrency=1)
BEGUN = StartedAttempt("one-start", 1, 1, "one", WebhookEvent.START)
VERSION = Version("v", "b/b", "1", size=1, rank=1, training_id=None, created_at=now())
EVERY_COMMAND: dict[str, Command[Any]] = {
    "record.create": commands.create(NEW, remember_seconds=1, max_queued=1),
    "record.offer": commands.offer("ann", "d", "one", 1),
    "record.get": commands.get("one"),
    "record.list_page": commands.list_page("ann", commands.FIRST_PAGE, 1),
    "record.take": commands.take("generation", "t", 1.0),
    "record.renew": commands.renew("one", "t", 1.0),
    "record.succeed": commands.succeed("one", "t", output_key="k", metrics={}, logs="", progress=Progress(1, 1)),
    "record.fail": commands.fail("one", "t", error="e", logs=""),
    "record.announce_chunk": commands.announce_chunk("one", Chunk(1, "t", 0, 0.0, 1.0)),
    "record.give_back": commands.give_back("one", "t", suspect=True),
    "record.hints": commands.hints("generation"),
    "record.wanted": commands.wanted(["one"]),
    "record.events": commands.events("one"),
    "record.cancel": commands.cancel("one"),
    "record.cancel_overdue": commands.cancel_overdue(),
    "record.delete": commands.delete("one"),
    "record.reap": commands.reap(1),
    "record.expired": commands.expired(1.0),
    "files.put_file": file_commands.put_file("f", owner="ann", name="n", content_type="t", size=1, sha256="0"),
    "files.get_file": file_commands.get_file("f"),
    "files.list_files": file_commands.list_files("ann", 1),
    "files.known": file_commands.known(["f"]),
    "files.delete_file": file_commands.delete_file("f"),
    "fine_tunes.create": fine_tune_commands.create("a/a", "ann", Visibility.PRIVATE, None),
    "fine_tunes.get": fine_tune_commands.get("a/a"),
    "fine_tunes.visible_to": fine_tune_commands.visible_to("ann"),
    "fine_tunes.having": fine_tune_commands.having("v"),
    "fine_tunes.change": fine_tune_commands.change("a/a", "ann", Visibility.PUBLIC, None),
    "fine_tunes.add_version": fine_tune_commands.add_version("a/a", "ann", VERSION),
    "fine_tunes.delete_version": fine_tune_commands.delete_version("a/a", "ann", "v"),
    "fine_tunes.delete": fine_tune_commands.delete("a/a", "ann"),
    "fine_tunes.known": fine_tune_commands.known(["v"]),
    "models.announce": announcements.announce("worker", CARD, 1.0, queue="generation"),
    "models.withdraw": announcements.withdraw("worker", queue="generation"),
    "models.deployment": announcements.deployment(),
    "estimates.measured_steps": throughput.measured_steps("generation", "v", together=1.0, step_seconds=1.0),
    "estimates.measured_other": throughput.measured_other("generation", "v", seconds=1.0, diffusion=False),
    "estimates.forecast_queue": forecast.forecast_queue("generation"),
    "webhooks.due": deliveries.due(),
    "webhooks.begin": deliveries.begin(DueDelivery("one-start", "ann", "host:80"), "t"),
    "webhooks.end": deliveries.end(BEGUN, Verdict.RETRY, status=None, error=None, seconds=1.0),
    "webhooks.of": deliveries.of("one"),
    "webhooks.redeliver": deliveries.redeliver("one", "one-start"),
    "webhooks.secret_state": secrets.secret_state("ann"),
    "webhooks.rotate_secret": secrets.rotate_secret("ann", "t"),
    "observability.probe": queues.probe(),
    "observability.state": queues.state(["ann"]),
    "rates.spend": rates.spend("ann", rates.Kind.READS, "t", per_second=1.0, patience_seconds=1.0),
}


def lua_files() -> list[str]:
    """Every Lua file below predictions/, by the name that `source` takes."""
    rooms = [room for room in resources.files("predictions").iterdir() if (room / "lua").is_dir()]
    files = [f"{room.name}/{file.name}" for room in rooms for file in (room / "lua").iterdir() if file.is_file()]
    return sorted(name.removesuffix(".lua") for name in files)


SCRIPTS = lua_files()
PRELUDE_FILES = [f"record/prelude/{name}" for name in PRELUDES]


@pytest.mark.parametrize("name", PRELUDE_FILES + SCRIPTS)
def test_a_script_names_nothing_that_the_schema_lacks(name: str) -> None:
    assert check(source(name)).problems == []


def test_every_script_is_some_commands_and_every_command_has_its_script() -> None:
    assert sorted({command.script for command in EVERY_COMMAND.values()}) == SCRIPTS
    making = {
        f"{module.__name__.split('.')[1]}.{name}"
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if str(function.__annotations__.get("return")).startswith("Command[") and not name.startswith("_")
    }
    assert making == set(EVERY_COMMAND)


@pytest.mark.parametrize("command", EVERY_COMMAND.values(), ids=EVERY_COMMAND)
def test_a_command_gives_what_its_script_reads(command: Command[Any]) -> None:
    assert set(command.arguments) == check(source(command.script)).arguments


def test_preludes_read_no_arguments_and_all_of_them_are_used() -> None:
    assert set().union(*(check(source(name)).arguments for name in PRELUDE_FILES)) == set()
    folder = resources.files("predictions") / "record" / "lua" / "prelude"
    assert {file.name for file in folder.iterdir()} == {f"{name}.lua" for name in PRELUDES}


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ("redis.call('HGET', KEY.prediction(id), 'colour')", "has no field 'colour'"),
        ("redis.call('HMGET', KEY.file(id), 'name', 'status')", "has no field 'status'"),
        ("redis.call('HSET', KEY.delivery(id), 'state', DELIVERY.failed, 'until', 1)", "has no field 'until'"),
        ("local key = KEY.delivery(id)\nredis.call('HINCRBY', key, 'enqueues', 1)", "has no field 'enqueues'"),
        ("redis.call('HGET', KEY.delivery(id), FIELD.webhook_sent(event))", "has no field 'webhook_sent:{event}'"),
        ("redis.call('HGET', KEY.prediction(id), 'webhooks:' .. event)", "put together from text"),
        ("redis.call('XADD', KEY.events(id), '*', 'event', name, 'date', data)", "has no field 'date'"),
        ("redis.call('HGETALL', 'musicgen:prediction:' .. id)", "literal 'musicgen:prediction:'"),
        ("redis.call('HGETALL', somewhere)", "not in the schema"),
        ("redis.call('HGETALL', KEY.predictions(id))", "unknown constant KEY.predictions"),
        ("redis.call('ZREM', KEY.running(queue), id)", "a set"),
        ("redis.call('ZADD', KEY.leases(id), 1, id)", "takes 0 parameters, not 1"),
        ("redis.call('HGETALL', KEY.idempotency(owner))", "takes 2 parameters, not 1"),
        ("redis.call('HGETS', KEY.prediction(id))", "unknown command HGETS"),
        ("if status == STATUS.finished then return 1 end", "unknown constant STATUS.finished"),
        ("if state == STATE.pending then return 1 end", "unknown constant STATE.pending"),
        ("if status == 'starting' then return 1 end", "literal 'starting'"),
        ("redis.call('HSET', KEY.prediction(id), 'status', 'failed')", "literal 'failed'"),
        ("redis.call('LPUSH', 'webhooks', id)", "literal 'webhooks'"),
        ("emit(id, 'logs', text)", "literal 'logs'"),
        ('emit(id, "logs", text)', "single quotes"),
        ("return { 'error', 'Something for users.' }", "literal 'Something for users.'"),
        ("return ARGV[1]", "arguments have names"),
    ],
)
def test_the_checker_finds_what_is_wrong(broken: str, problem: str) -> None:
    assert any(problem in found for found in check(broken).problems)


def test_the_checker_reads_arguments_but_not_comments() -> None:
    assert check("-- given.nothing, 'musicgen:'\nreturn given.id .. given.owner").arguments == {"id", "owner"}


@pytest.mark.parametrize("wrong", ["STATUS.finished", "KEY.nothing", "given.nothing", "QUEUE.nothing"])
def test_redis_refuses_a_name_that_nobody_knows(store: PredictionStore, wrong: str) -> None:
    known = 'return { STATUS.starting, KEY.prediction("one"), given.id }'
    assert store.redis.eval(render_schema() + known, 0, '{"id": "x"}') == ["starting", "musicgen:prediction:one", "x"]
    with pytest.raises(ResponseError, match="unknown name"):
        store.redis.eval(f"{render_schema()}return {wrong}", 0, "{}")


def words(text: str) -> set[str]:
    return set(text.split())


def templates(holder: type) -> dict[str, str]:
    return {name: value.template for name, value in vars(holder).items() if isinstance(value, Name)}


def test_the_keys_and_fields_of_stored_data() -> None:
    """Data of earlier versions has these names: whoever changes one migrates what is stored."""
    assert templates(Keys) == {
        "prediction": "musicgen:prediction:{id}",
        "events": "musicgen:events:{id}",
        "owner": "musicgen:owner:{owner}",
        "owner_trainings": "musicgen:owner-trainings:{owner}",
        "idempotency": "musicgen:idempotency:{owner}:{key}",
        "offered": "musicgen:offered:{owner}:{digest}",
        "chosen": "musicgen:chosen:{token}",
        "queues": "musicgen:queues",
        "waiting": "musicgen:waiting:{queue}",
        "waiting_since": "musicgen:waiting-since:{queue}",
        "tenant_waiting": "musicgen:tenant-waiting:{queue}:{owner}",
        "tenant_queues": "musicgen:tenant-queues:{owner}",
        "returned": "musicgen:returned:{queue}",
        "turns": "musicgen:turns:{queue}",
        "virtual_time": "musicgen:virtual-time:{queue}",
        "served": "musicgen:served:{queue}",
        "tenant": "musicgen:tenant:{owner}",
        "tenant_running": "musicgen:tenant-running:{owner}",
        "accepted": "musicgen:accepted:{owner}",
        "deadlines": "musicgen:deadlines",
        "queued": "musicgen:queued:{queue}",
        "running": "musicgen:running:{queue}",
        "leases": "musicgen:leases",
        "ended": "musicgen:ended",
        "webhooks": "musicgen:webhooks:{owner}:{host}",
        "webhook_hosts": "musicgen:webhook-hosts:{owner}",
        "webhook_owners": "musicgen:webhook-owners",
        "all_webhooks": "musicgen:webhooks",
        "delivery": "musicgen:delivery:{webhook_id}",
        "deliveries": "musicgen:deliveries:{id}",
        "file": "musicgen:file:{id}",
        "files": "musicgen:files",
        "owner_files": "musicgen:owner-files:{owner}",
        "fine_tune": "musicgen:fine-tune:{name}",
        "fine_tune_versions": "musicgen:fine-tune-versions:{name}",
        "owner_fine_tunes": "musicgen:owner-fine-tunes:{owner}",
        "public_fine_tunes": "musicgen:public-fine-tunes",
        "adapter": "musicgen:adapter:{id}",
        "stored": "musicgen:stored:{owner}",
        "rate": "musicgen:rate:{owner}:{kind}",
        "rate_answer": "musicgen:rate-answer:{token}",
        "webhook_secret": "musicgen:webhook-secret:{owner}",
        "counts": "musicgen:counts:{queue}",
        "probe": "musicgen:probe",
        "cards": "musicgen:cards",
        "workers": "musicgen:workers:{queue}",
        "throughput": "musicgen:pace:{queue}:{version}",
    }
    assert templates(Field) == {
        "webhook_count": "webhooks:{event}",
        "webhook_sent": "webhook_sent:{event}",
        "attempt_started": "started:{number}",
        "attempt_outcome": "outcome:{number}",
        "ended": "ended:{status}:{cause}",
        "step_seconds": "step:{requests}",
        "other_seconds": "beside:{decoder}",
    }
    assert words(
        "alone attempt base base_url base_version completed_at created_at deaths destination digest enqueues error id "
        "input input_file kind lease_token live live_chunks logs metrics model needs_audio origin output output_key "
        "owner progress provenance queue request_id rerun_of returned_at started_at status stored_bytes stream_token "
        "suspicions tenant traceparent version wanted_audio_sha256 webhook webhook_events webhook_gone webhook_host"
    ) == set(PredictionHash.__annotations__)
    assert words("attempts created_at due event id prediction state token tries") == set(DeliveryHash.__annotations__)
    assert words("content_type created_at id metadata name owner sha256 size stored_bytes") == set(
        FileHash.__annotations__
    )
    assert words("created_at description name owner visibility") == set(FineTuneHash.__annotations__)
    assert words("generation oldest rotated_at") == set(WebhookSecretHash.__annotations__)
    assert words("running_limit weight") == set(TenantHash.__annotations__)
    assert words("accepted reaped resumed taken") == set(CountsHash.__annotations__)
    assert words("digest id") == set(IdempotencyHash.__annotations__)


@pytest.mark.parametrize(
    ("enumeration", "values"),
    [
        (Status, "starting processing succeeded failed canceled"),
        (EventName, "status progress logs audio"),
        (WebhookEvent, "start output logs completed"),
        (DeliveryState, "pending delivered failed superseded disabled"),
        (Cause, "input input_audio storage disk internal worker_died client deadline"),
        (Kind, "prediction training"),
        (Queue, "generation trainings webhooks"),
        (Task, "musicgen.generate musicgen.deliver_webhook"),
        (Channel, "musicgen:ended-channel musicgen:events-channel"),
    ],
)
def test_the_words_of_stored_data(enumeration: type[StrEnum], values: str) -> None:
    assert {str(member) for member in enumeration} == words(values)


def test_terminal_statuses() -> None:
    assert sorted(TERMINAL) == ["canceled", "failed", "succeeded"]


@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (messages.GENERATE_MESSAGE, "2e6c9bc578bbd9e951f1714ce0f922f1177eb31169d1f27202d502d6b3799d1f"),
        (messages.WEBHOOK_MESSAGE, "10ecfca616a5c245da3cb18dab1192c7f0bba9b2d41389394eef5ae833ba963e"),
    ],
)
def test_messages_are_those_that_already_wait_in_queues(message: str, digest: str) -> None:
    """The reaper looks for a message by its text: another text would double those of an earlier version."""
    assert hashlib.sha256(message.encode()).hexdigest() == digest
