"""The data folder of `musicgen serve`: damaged files, and who may read it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cli.redis_server import start_failure
from tests.servers import free_port, redis_server


@pytest.fixture
def data() -> Iterator[Path]:
    # Not pytest's own folder: its path may be too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="data ") as folder:
        yield Path(folder)


def serve(data: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PORT": str(free_port()), "MUSICGEN_DATA_DIR": str(data), **settings}
    command = [sys.executable, "-m", "cli.main", "serve"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_damaged_file_ends_the_service_with_a_command_that_mends_it(data: Path) -> None:
    with redis_server(data) as url, redis.Redis.from_url(url) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
        for number in range(10):
            client.set(f"key {number}", "value")
    [path] = (data / "redis").glob("appendonlydir/*.incr.aof")
    content = bytearray(path.read_bytes())
    content[content.index(b"*3", len(content) // 2)] = 0
    path.write_bytes(content)
    (data / "redis").chmod(0o755)

    ended = serve(data)

    assert ended.returncode == 1
    assert str(data / "redis") in ended.stderr
    assert "Bad file format" in ended.stdout
    assert "Bad file format" in ended.stderr
    assert {path.stat().st_mode & 0o777 for path in (data / "redis", data / "objects")} == {0o700}
    [mend] = re.findall(r"^  (bash .*)$", ended.stderr, re.MULTILINE)
    subprocess.run(mend, shell=True, input="y\n", text=True, check=True)
    with redis_server(data) as url, redis.Redis.from_url(url) as client:
        assert client.get("key 0") == b"value"
        assert 0 < client.dbsize() < 10


def test_other_damage_is_not_said_to_be_mendable() -> None:
    message = start_failure(Path("/data"), ["Error reading the RDB base file appendonly.aof.1.base.rdb\n"])
    assert "base.rdb" in message
    assert "bash" not in message
    assert "mv /data/redis /data/redis-damaged" in message


def test_a_new_data_folder_is_private(tmp_path: Path) -> None:
    # A server that does not start ends the service.
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho not today\nexit 1\n")
    program.chmod(0o755)
    data = tmp_path / "data"

    ended = serve(data, PATH=f"{tmp_path}:{os.environ['PATH']}")

    assert ended.returncode == 1
    assert "not today" in ended.stderr
    # The worker loads its model meanwhile; what needs Redis from its first moment is not started.
    assert "started worker" in ended.stdout
    assert "started api" not in ended.stdout
    assert [path.stat().st_mode & 0o777 for path in (data, data / "redis", data / "objects")] == [0o700] * 3
