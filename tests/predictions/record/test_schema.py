"""Every script uses the schema's keys and fields, and the arguments that its command gives; nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import redis

from predictions.estimates import throughput
from predictions.files import commands as file_commands
from predictions.models import announcements
from predictions.models.card import ModelCard
from predictions.record import commands
from predictions.record.command import Command
from predictions.record.events import Chunk
from predictions.record.prediction import NewPrediction, Progress, Provenance, Webhook
from predictions.record.schema import KEYS, DeliveryFields, PredictionFields, Verdict, WebhookEvent, as_lua
from predictions.record.scripts import SHARED, source
from predictions.record.store import PredictionStore
from predictions.webhooks import deliveries

ROOMS = Path(str(resources.files("predictions")))
SCRIPTS = sorted(f"{path.parts[-3]}/{path.stem}" for path in ROOMS.glob("*/lua/*.lua"))
TABLES = {"KEY", "CHANNEL", "QUEUE", "STATUS", "OUTCOME", "EVENT", "WEBHOOK_EVENT", "DELIVERY", "VERDICT"}

CARD = ModelCard(name="a/b", version="v", melody=True, channels=1, sample_rate=32000, max_duration=30, concurrency=1)
NEW = NewPrediction(
    id="one",
    owner="ann",
    digest="d",
    input={"prompt": "piano"},
    model="a/b",
    version="v",
    queue="generation",
    base_url="http://host",
    input_file="f",
    webhook=Webhook("http://hook"),
    stream_token="t",
    live=True,
    rerun_of="zero",
    wanted_audio_sha256="0" * 64,
)
BEGUN = deliveries.Begun("one-start", 1, 1, "one", WebhookEvent.START)
SUCCEEDED = commands.succeed(
    "one", 1, output_key="k", metrics={}, logs="ab", progress=Progress(2, 2), provenance=Provenance("c", "v")
)
COMMANDS: list[Command[Any]] = [
    commands.create(NEW, remember_seconds=1, max_queued=1),
    commands.offer("ann", "d", "one", 1),
    commands.get("one"),
    commands.list_page("ann", commands.FIRST_PAGE, 1),
    commands.claim("one", 1.0),
    commands.renew("one", 1, 1.0, progress=Progress(1, 2), logs=""),
    SUCCEEDED,
    commands.announce_chunk("one", Chunk(1, 0, 0.0, 1.0)),
    commands.events("one"),
    commands.cancel("one"),
    commands.delete("one"),
    commands.reap(3, 10.0),
    commands.expired(1.0),
    announcements.announce("w", CARD, 1.0, queue="generation"),
    announcements.withdraw("w", queue="generation"),
    announcements.deployment(),
    deliveries.due(),
    deliveries.begin("one-start"),
    deliveries.end(BEGUN, Verdict.RETRY, status=500, error=None, seconds=0.1, retry_in_seconds=1.0),
    deliveries.of("one"),
    deliveries.redeliver("one", "one-start"),
    throughput.measured_beside("generation", "v", seconds=1.0, diffusion=False),
    throughput.forecast("generation"),
    file_commands.put_file("f", owner="ann", name="n", content_type="audio/wav", size=1, sha256="s"),
    file_commands.get_file("f"),
    file_commands.list_files("ann", 1),
    file_commands.delete_file("f"),
]
"""One command for each script, with all of its optional arguments."""


def code(text: str) -> str:
    return re.sub(r"--[^\n]*", "", text)


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of each `redis.call(...)`, as they are written."""
    for match in re.finditer(r"redis\.call\(", text):
        arguments, depth, start = [], 0, match.end()
        for position in range(match.end(), len(text)):
            character = text[position]
            if depth == 0 and character in ",)":
                arguments.append(text[start:position].strip())
                start = position + 1
            if character in "({":
                depth += 1
            elif character in ")}":
                if depth == 0:
                    break
                depth -= 1
        yield arguments


def variables(text: str) -> dict[str, str]:
    """The names of keys that local variables stand for: local record, time = KEY.prediction(id), clock()."""
    found = {}
    for names, values in re.findall(r"local ([\w, ]+) = ([^\n]+)", text):
        parts = re.split(r",\s*(?![^(]*\))", values)
        for name, value in zip(names.split(", "), parts, strict=False):
            if key := re.match(r"KEY\.(\w+)", value):
                found[name] = key[1]
    return found


def faults(text: str) -> list[str]:
    """What a script uses that the schema lacks."""
    text = code(text)
    found = [f"a literal key: {key}" for key in re.findall(r"'musicgen:[^']*'", text)]
    found += [f"KEY.{name} is no key" for name in re.findall(r"\bKEY\.(\w+)", text) if name not in KEYS]
    found += [
        f"{table}.{name} is not in the schema"
        for table, name in re.findall(r"\b([A-Z_]+)\.(\w+)", text)
        if table in TABLES - {"KEY"} and not re.search(rf"local {table} = .*\b{name} = ", as_lua())
    ]
    known = variables(text)
    for command, key, *arguments in (call for call in calls(text) if len(call) > 1):
        if not re.fullmatch(r"'(H\w+|XADD)'", command):
            continue
        name = match[1] if (match := re.match(r"KEY\.(\w+)", key)) else known.get(key, "")
        fields = [literal[1] for argument in arguments if (literal := re.match(r"'([a-z_]+:?)'", argument))]
        if name not in KEYS:
            found += [f"the hash {key} is not known"] if fields else []
            continue
        found += [f"{name} has no field {field}" for field in fields if not KEYS[name].knows(field)]
    record = [*re.findall(r"given\.record\.(\w+)", text), *re.findall(r"name == '(\w+)'", text)]
    found += [f"prediction has no field {name}" for name in record if not KEYS["prediction"].knows(name)]
    return found


def test_there_are_scripts_and_each_has_its_command() -> None:
    assert len(SCRIPTS) > 25
    assert sorted({command.script for command in COMMANDS} | set(SHARED)) == SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_uses_what_the_schema_has(name: str) -> None:
    assert faults(source(name)) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.script)
def test_a_command_gives_the_arguments_that_its_script_reads(command: Command[Any]) -> None:
    assert set(re.findall(r"\bgiven\.(\w+)", code(source(command.script)))) == set(command.arguments)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_no_statuses_and_no_prose_of_its_own(name: str) -> None:
    literals = set(re.findall(r"'([^']*)'", code(source(name))))
    assert not literals & {"starting", "processing", "succeeded", "failed", "canceled", "pending", "generation"}
    assert not [literal for literal in literals if literal.count(" ") > 1]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("redis.call('GET', 'musicgen:leases')", "a literal key"),
        ("redis.call('ZCARD', KEY.waiting)", "KEY.waiting is no key"),
        ("redis.call('HGET', KEY.prediction(id), 'state')", "prediction has no field state"),
        ("redis.call('HSET', KEY.delivery(id), 'due', 1, 'status', 2)", "delivery has no field status"),
        ("local key, time = KEY.file(id), clock()\nredis.call('HGET', key, 'digest')", "file has no field digest"),
        ("redis.call('HGET', key, 'digest')", "the hash key is not known"),
        ("redis.call('HSET', KEY.delivery(id), 'ended:' .. number, 1)", "delivery has no field ended:"),
        ("redis.call('XADD', KEY.events(id), '*', 'name', 'x')", "events has no field name"),
        ("local status = STATUS.cancelled", "STATUS.cancelled is not in the schema"),
        ("local owner = given.record.user", "prediction has no field user"),
    ],
)
def test_the_check_finds_what_is_wrong(line: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in faults(line)), faults(line)


def test_redis_refuses_a_name_that_the_schema_lacks(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert (
            client.eval(as_lua() + "return KEY.queued('q') .. ' ' .. STATUS.failed", 0) == b"musicgen:queued:q failed"
        )
        for name in ("KEY.waiting", "STATUS.cancelled", "QUEUE.other"):
            with pytest.raises(redis.ResponseError, match="has no"):
                client.eval(as_lua() + f"return {name}", 0)


def test_the_names_are_those_of_stored_data() -> None:
    """What version 0.1.0 wrote; a new name here needs a way for the old data."""
    assert {name: key.pattern for name, key in KEYS.items()} == {
        "prediction": "musicgen:prediction:{id}",
        "events": "musicgen:events:{id}",
        "owner": "musicgen:owner:{owner}",
        "queues": "musicgen:queues",
        "queued": "musicgen:queued:{queue}",
        "leases": "musicgen:leases",
        "running": "musicgen:running:{queue}",
        "ended": "musicgen:ended",
        "idempotency": "musicgen:idempotency:{owner}:{key}",
        "offered": "musicgen:offered:{owner}:{digest}",
        "webhooks": "musicgen:webhooks",
        "delivery": "musicgen:delivery:{delivery}",
        "deliveries": "musicgen:deliveries:{id}",
        "file": "musicgen:file:{id}",
        "files": "musicgen:files",
        "owner_files": "musicgen:owner-files:{owner}",
        "cards": "musicgen:cards",
        "throughput": "musicgen:pace:{queue}:{version}",
        "workers": "musicgen:workers:{queue}",
    }


def test_a_prediction_that_version_0_1_0_stored_is_read(store: PredictionStore) -> None:
    store.redis.hset(
        "musicgen:prediction:old",
        mapping={
            **{
                "id": "old",
                "owner": "ann",
                "digest": "d",
                "status": "succeeded",
                "attempt": "1",
                "queue": "generation",
            },
            **{"created_at": "1700000000.000001", "completed_at": "1700000009.5", "base_url": "http://host"},
            **{"input": '{"prompt": "piano"}', "model": "a/b", "version": "v", "output_key": "predictions/old/1/o.wav"},
            **{"progress": "[53, 53]", "logs": "Using seed 1\n", "metrics": '{"seed": 1}', "live": "1"},
            **{"webhook": "http://hook", "webhook_events": "start,completed", "webhooks:logs": "2", "enqueues": "1"},
        },
    )
    prediction = store.run(commands.get("old"))
    assert prediction.completed_at == datetime.fromtimestamp(1700000009.5, UTC)
    assert (prediction.progress, prediction.live, prediction.metrics) == (Progress(53, 53), True, {"seed": 1})
    assert prediction.webhook is not None
    assert prediction.webhook.events == ("start", "completed")


def test_what_is_stored_has_the_fields_of_the_schema_alone(store: PredictionStore) -> None:
    def stored(pattern: str) -> set[str]:
        return {field for key in store.redis.scan_iter(pattern) for field in store.redis.hkeys(key)}

    def plain(fields: set[str], key: str) -> set[str]:
        assert all(KEYS[key].knows(field) or KEYS[key].knows(field.partition(":")[0] + ":") for field in fields)
        return {field for field in fields if ":" not in field}

    store.run(commands.create(NEW, remember_seconds=1, max_queued=1))
    store.run(commands.claim("one", 60.0))
    begun = store.run(deliveries.begin("one-start"))
    assert begun is not None
    store.run(deliveries.end(begun, Verdict.GONE, status=410, error=None, seconds=0.1))
    store.run(commands.renew("one", 1, 60.0, progress=Progress(1, 2), logs="a"))
    store.run(SUCCEEDED)
    assert plain(stored("musicgen:prediction:*"), "prediction") == set(PredictionFields.__annotations__) - {"error"}
    assert plain(stored("musicgen:delivery:*"), "delivery") == set(DeliveryFields.__annotations__)
