"""A wrong setting ends each process at its start, with one line that names it and a status of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from predictions.errors import WRONG_SETTING_STATUS
from tests.servers import free_port


def musicgen(data: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PORT": str(free_port()),
        "MUSICGEN_DATA_DIR": str(data),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
        **settings,
    }
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    """What a process that is not `serve` said of the setting."""
    assert ended.returncode == WRONG_SETTING_STATUS, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.strip().splitlines()[-1]


EVERYWHERE = [
    ({"MUSICGEN_LEASE_SECONDS": "inf"}, "MUSICGEN_LEASE_SECONDS"),
    ({"MUSICGEN_REDIS_URL": "http://127.0.0.1"}, "MUSICGEN_REDIS_URL"),
    ({"MUSICGEN_MODELS": "/nonexistent/models.toml"}, "MUSICGEN_MODELS"),
    ({"MUSICGEN_DATA_DIR": f"{__file__}/data"}, "MUSICGEN_DATA_DIR"),
    ({"MUSICGEN_STORAGE": "s3", "MUSICGEN_S3_ENDPOINT": "http://127.0.0.1:1"}, "MUSICGEN_S3_ACCESS_KEY"),
    ({"MUSICGEN_TRACES": "true", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
    ({"MUSICGEN_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
]
OF_WORKERS = [
    ({"MUSICGEN_MODEL": "/nonexistent/model"}, "MUSICGEN_MODEL=/nonexistent/model"),
    ({"MUSICGEN_MODEL": "facebook/musicgen-style"}, "MUSICGEN_MODEL=facebook/musicgen-style"),
    ({"MUSICGEN_ENGINE": "audiocraft", "MUSICGEN_MODEL": "/nonexistent/model"}, "MUSICGEN_MODEL=/nonexistent/model"),
    (
        {"MUSICGEN_C2PA_CERTIFICATE": "/nonexistent/chain.pem", "MUSICGEN_C2PA_KEY": "/nonexistent/key.pem"},
        "MUSICGEN_C2PA_CERTIFICATE=/nonexistent/chain.pem",
    ),
]


@pytest.mark.parametrize(("settings", "words"), EVERYWHERE)
@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_process_ends_with_one_line(
    redis_url: str, tmp_path: Path, command: str, settings: dict[str, str], words: str
) -> None:
    given = {"MUSICGEN_REDIS_URL": redis_url, "MUSICGEN_SECRET": "a secret of 16 or more", **settings}
    assert words in last_line(musicgen(tmp_path, command, **given))


@pytest.mark.parametrize(("settings", "words"), OF_WORKERS)
def test_a_worker_without_what_it_needs_ends_with_one_line(
    redis_url: str, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    given = {"MUSICGEN_REDIS_URL": redis_url, "MUSICGEN_SECRET": "a secret of 16 or more", **settings}
    assert words in last_line(musicgen(tmp_path, "worker", **given))


def test_a_worker_that_wants_a_gpu_which_is_not_there(redis_url: str, tmp_path: Path) -> None:
    given = {"MUSICGEN_REDIS_URL": redis_url, "MUSICGEN_SECRET": "a secret of 16 or more", "CUDA_VISIBLE_DEVICES": ""}
    assert "MUSICGEN_DEVICE=cpu" in last_line(musicgen(tmp_path, "worker", MUSICGEN_DEVICE="cuda", **given))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_damaged_model_ends_the_worker_with_one_line(redis_url: str, tmp_path: Path, file: str) -> None:
    from musicgen_core.checkpoints.noise_model import write_noise_model

    folder = write_noise_model(tmp_path / "model")
    (folder / file).write_bytes(b"{}" if file == "config.json" else b"damaged")
    given = {"MUSICGEN_REDIS_URL": redis_url, "MUSICGEN_SECRET": "a secret of 16 or more"}
    assert f"MUSICGEN_MODEL={folder}" in last_line(musicgen(tmp_path, "worker", MUSICGEN_MODEL=str(folder), **given))


@pytest.mark.parametrize("command", [("api",), ("worker", "--queues", "webhooks"), ("worker",)])
def test_a_secret_is_required(redis_url: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = musicgen(tmp_path, *command, MUSICGEN_REDIS_URL=redis_url)
    assert "MUSICGEN_SECRET is not set" in last_line(ended)


@pytest.mark.parametrize("command", [("api",), ("worker", "--queues", "webhooks"), ("worker",)])
def test_traces_need_their_extra(redis_url: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    without = (
        f"import sys; sys.modules['opentelemetry.sdk'] = None; from cli.main import main; sys.exit(main({command}))"
    )
    environment = {
        **os.environ,
        "MUSICGEN_DATA_DIR": str(tmp_path),
        "MUSICGEN_REDIS_URL": redis_url,
        "MUSICGEN_SECRET": "a secret of 16 or more",
        "MUSICGEN_TRACES": "true",
    }
    ended = subprocess.run(
        [sys.executable, "-c", without], env=environment, capture_output=True, text=True, timeout=300
    )
    assert "pip install 'musicgen-server[otel]'" in last_line(ended)


def test_what_redis_refuses_is_a_wrong_setting(redis_url: str, tmp_path: Path) -> None:
    given = {"MUSICGEN_SECRET": "a secret of 16 or more"}
    ended = musicgen(tmp_path, "api", MUSICGEN_REDIS_URL=f"{redis_url}?db=1000", **given)
    assert "number after the slash" in last_line(ended)
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("requirepass", "known to few")
        try:
            ended = musicgen(tmp_path, "worker", "--queues", "webhooks", MUSICGEN_REDIS_URL=redis_url, **given)
        finally:
            client.config_set("requirepass", "")
    assert "MUSICGEN_REDIS_URL" in last_line(ended)
    assert "password" in last_line(ended)


@pytest.mark.parametrize(("settings", "words"), [*EVERYWHERE, *OF_WORKERS])
def test_serve_ends_with_the_line_of_its_process(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    ended = musicgen(tmp_path, "serve", **settings)
    assert ended.returncode == WRONG_SETTING_STATUS, ended.stdout + ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "READY" not in ended.stdout
    assert "starting it again" not in ended.stdout
