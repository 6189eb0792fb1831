"""What docs/scale.md says of a Redis Cluster and of replicas, as things stand."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from cli.redis_server import server_program
from predictions.estimates import throughput
from predictions.models import announcements
from predictions.record import commands
from predictions.record.command import Command
from predictions.record.prediction import NewPrediction
from predictions.record.schema import Queue
from predictions.record.scripts import script
from tests.servers import free_port, wait_until

NEW = NewPrediction(
    id="p",
    owner="ann",
    digest="d",
    input={"prompt": "piano", "duration": 8},
    model="a/a",
    version="v",
    queue=Queue.GENERATION,
    base_url="http://127.0.0.1:8000",
)
CREATE = commands.create(NEW, remember_seconds=60, max_queued=10)
SEVERAL_SLOTS = (CREATE, commands.take(Queue.GENERATION, "t", 10), commands.reap(3))
ONE_KEY = (
    commands.events("p"),
    commands.hints(Queue.GENERATION),
    commands.offer("ann", "d", "p", 10),
    announcements.withdraw("w", queue=Queue.GENERATION),
    throughput.measured_steps(Queue.GENERATION, "v", together=1.0, step_seconds=0.1),
)


@contextmanager
def server(folder: Path, *options: str) -> Iterator[redis.Redis]:
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen(
        [server_program(), "--port", str(port), "--dir", str(folder), "--save", "", "--loglevel", "warning", *options]
    )
    client: redis.Redis = redis.Redis(port=port, decode_responses=True)
    try:
        wait_until(lambda: answers(client), process=process)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(20)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def run(client: redis.Redis, command: Command[Any], text: str | None = None) -> Any:
    return command.read(client.eval(text or script(command.script).text, 0, json.dumps(command.arguments)))


def test_a_cluster_refuses_the_scripts_whose_keys_are_in_several_slots(tmp_path: Path) -> None:
    with server(tmp_path / "node", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as node:
        node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        for command in SEVERAL_SLOTS:
            with pytest.raises(redis.ResponseError, match="do not hash to the same slot"):
                run(node, command)
        for command in ONE_KEY:
            run(node, command)


def test_a_replica_answers_reads_once_their_scripts_say_that_they_write_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        primary = stack.enter_context(server(tmp_path / "primary"))
        run(primary, CREATE)
        port = primary.connection_pool.connection_kwargs["port"]
        replica = stack.enter_context(server(tmp_path / "replica", "--replicaof", f"127.0.0.1 {port}"))
        wait_until(lambda: replica.exists("musicgen:prediction:p"))
        read = commands.get("p")
        with pytest.raises(redis.exceptions.ReadOnlyError):
            run(replica, read)
        text = script(read.script).text.replace("flags=allow-oom", "flags=no-writes", 1)
        assert run(replica, read, text).id == "p"
