"""`musicgen check`: one line for each thing, and nothing started or left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from musicgen_core.checkpoints import hub
from tests.certificates import make_certificate
from tests.servers import free_port


def check(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **settings}
    command = [sys.executable, "-m", "cli.main", "check", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    return done


def findings(**settings: str) -> dict[str, tuple[str, str]]:
    """State and text by name."""
    done = check("--json", **settings)
    found = {item["name"]: (item["state"], item["text"]) for item in json.loads(done.stdout)}
    assert done.returncode == (1 if any(state == "✗" for state, _ in found.values()) else 0)
    return found


def test_the_settings_of_serve_are_right_as_they_are(tmp_path: Path) -> None:
    done = check(MUSICGEN_DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    names = [line.partition(":")[0][2:] for line in lines]
    assert names == [
        *("settings", "secret", "tokens", "Redis", "storage", "device", "engine", "ffmpeg", "content credentials"),
        "traces",
        "page",
        "model local/musicgen-pocket",
    ]
    assert all(line[0] in "✓–" for line in lines)
    assert hub.checksum(hub.POCKET_FOLDER)[:12] in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_everything_of_a_deployment_is_tried(redis_url: str, tmp_path: Path) -> None:
    found = findings(
        MUSICGEN_DATA_DIR=str(tmp_path),
        MUSICGEN_REDIS_URL=redis_url,
        MUSICGEN_SECRET="a secret of 16 or more",
        MUSICGEN_API_TOKENS="token-of-ann,token-of-bob",
    )
    assert {name: state for name, (state, _) in found.items() if state != "✓"}.keys() <= {"page"}
    assert "2 in MUSICGEN_API_TOKENS" in found["tokens"][1]
    assert "token-of-ann" not in str(found)
    assert "written, read and deleted" in found["storage"][1]
    assert not list((tmp_path / "objects").rglob("*.txt"))


def test_a_certificate_is_tried(tmp_path: Path) -> None:
    files = make_certificate(tmp_path)
    settings = {"MUSICGEN_C2PA_CERTIFICATE": str(files.certificate), "MUSICGEN_C2PA_KEY": str(files.key)}
    assert findings(MUSICGEN_DATA_DIR=str(tmp_path / "data"), **settings)["content credentials"] == (
        *("✓", f"a file was signed with {files.certificate}"),
    )


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        ({"MUSICGEN_LEASE_SECONDS": "nan"}, "settings", "MUSICGEN_LEASE_SECONDS"),
        ({"MUSICGEN_HOST": "0.0.0.0"}, "settings", "MUSICGEN_API_TOKENS"),
        ({"MUSICGEN_REDIS_URL": f"redis://127.0.0.1:{free_port()}"}, "Redis", "refused"),
        ({"MUSICGEN_REDIS_URL": "redis://127.0.0.1"}, "secret", "MUSICGEN_SECRET is not set"),
        ({"MUSICGEN_DATA_DIR": f"{__file__}/data"}, "storage", "MUSICGEN_DATA_DIR"),
        ({"MUSICGEN_DEVICE": "cuda"}, "device", "MUSICGEN_DEVICE=cpu"),
        ({"MUSICGEN_ENGINE": "audiocraft"}, "engine", "not installed"),
        ({"MUSICGEN_MODEL": "/nonexistent/model"}, "model local/model", "no such folder"),
        ({"MUSICGEN_MODEL": "not-a-hub-id"}, "model local/not-a-hub-id", "not a hub id"),
        (
            {"MUSICGEN_C2PA_CERTIFICATE": "/nonexistent/chain.pem", "MUSICGEN_C2PA_KEY": "/nonexistent/key.pem"},
            *("content credentials", "MUSICGEN_C2PA_CERTIFICATE=/nonexistent/chain.pem cannot be read"),
        ),
        ({"MUSICGEN_MODELS": "/nonexistent/models.toml"}, "models", "MUSICGEN_MODELS"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, settings: dict[str, str], name: str, words: str) -> None:
    state, text = findings(**{"MUSICGEN_DATA_DIR": str(tmp_path), **settings})[name]
    assert (state, words in text) == ("✗", True), text


def test_a_model_that_is_still_to_be_fetched_is_left_open(tmp_path: Path) -> None:
    settings = {"MUSICGEN_DATA_DIR": str(tmp_path), "HF_HOME": str(tmp_path), "MUSICGEN_MODEL": "nobody/nothing"}
    state, text = findings(**settings)["model nobody/nothing"]
    assert (state, "fetches it" in text) == ("–", True)


def test_a_checksum_of_the_registry_is_compared(tmp_path: Path) -> None:
    shutil.copytree(hub.POCKET_FOLDER, tmp_path / "pocket")
    registry = tmp_path / "models.toml"
    for checksum, wanted in ((hub.checksum(hub.POCKET_FOLDER), "✓"), ("0" * 64, "✗")):
        registry.write_text(f'[[models]]\nname = "ann/pocket"\nsource = "pocket"\nchecksum = "{checksum}"\n')
        found = findings(MUSICGEN_DATA_DIR=str(tmp_path), MUSICGEN_MODELS=str(registry))
        assert found["model ann/pocket"][0] == wanted
