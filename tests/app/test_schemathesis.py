"""Requests made up from the OpenAPI document, allowed and forbidden ones, and what the API answers to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from predictions.record.schema import Queue
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server

CONFIG = Path(__file__).with_name("schemathesis.toml")
TOKEN = "a-token-of-ann"


@pytest.mark.parametrize("document", ["/openapi.json", "/v1/openapi.json"])
def test_schemathesis_finds_nothing(
    settings: Settings, announce: Callable[..., None], tmp_path: Path, document: str
) -> None:
    announce(CARD)
    announce(CARD, Queue.TRAININGS)
    closed = Settings(**{**settings.model_dump(), "api_tokens": TOKEN})
    with api_server(closed) as address:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
                *("run", f"{address}{document}", "-H", f"Authorization: Bearer {TOKEN}"),
                # A stream of a prediction that no worker takes does not end; what it begins with is looked at.
                *("--request-timeout", "2", "--seed", "1", "--max-examples", "5", "--no-color"),
            ],
            cwd=tmp_path,
            env={**os.environ, "NO_PROXY": "*"},
            capture_output=True,
            text=True,
        )
    assert run.returncode == 0, run.stdout + run.stderr
