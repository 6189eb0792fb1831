"""The application as a whole: what it does not load, and how large a body it reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx

from predictions.settings import Settings
from tests.app.conftest import api_server


def test_importing_the_api_loads_no_engine() -> None:
    code = (
        "import sys, app.main; "
        "print(*[name for name in sys.modules if name.partition('.')[0] in "
        "('torch', 'transformers', 'numpy', 'celery', 'musicgen_core', 'worker')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    # What may be chosen has one home, which both the API and the engine know.
    assert set(loaded.split()) == {"musicgen_core", "musicgen_core.errors", "musicgen_core.options"}


def chunks() -> Iterator[bytes]:
    """A body that does not tell its length."""
    for _ in range(64):
        yield b" " * 8192


def test_a_body_over_the_limit_is_refused(settings: Settings) -> None:
    small = settings.model_copy(update={"max_input_audio_mb": 0.1, "max_upload_mb": 0.1})
    with api_server(small) as address, httpx.Client(base_url=address, trust_env=False) as client:
        for content in (b" " * 500_000, chunks()):
            answer = client.post("/predictions", content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 413
