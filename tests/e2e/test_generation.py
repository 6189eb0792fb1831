"""A prompt goes in, music comes out at a URL. Every field of an input is tested in `test_fields.py`."""

from __future__ import annotations

import re

import httpx
import numpy as np
import pytest

from tests.e2e.conftest import Service
from tests.e2e.sound import RATE, measure, read_wav, unmarked


def test_ten_seconds_of_music_from_a_first_start(pocket: Service) -> None:
    """With default settings, the trained model that comes with the package is served."""
    assert pocket.client.get("/health-check").json()["model"]["trained"]
    body = pocket.generate(prompt="warm lo-fi piano", duration=10)
    content = pocket.audio(body)
    samples = read_wav(content)
    assert samples.shape == (1, 10 * RATE)
    assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5
    loudness, _ = measure(content)
    assert abs(loudness + 14) < 0.5
    metrics = body["metrics"]
    assert abs(metrics["loudness"] - loudness) < 0.2
    assert metrics["seed"] == body["input"]["seed"]
    assert metrics["duration"] == 10.0
    assert metrics["predict_time"] > 0
    assert metrics["real_time_factor"] == pytest.approx(metrics["predict_time"] / 10, rel=1e-3)
    assert body["progress"]["fraction"] == 1.0
    assert body["logs"].startswith(f"Using seed {body['input']['seed']}\n")
    # What Replicate's client reads the progress from.
    steps = re.findall(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)", body["logs"], re.MULTILINE)
    assert steps[-1] == ("100", "253", "253")


def test_twenty_at_once_and_each_as_if_alone(service: Service) -> None:
    """Requests of different lengths and settings at once give the same bytes as each of them alone."""
    inputs = [
        {"prompt": f"music {n}", "duration": 1 + n % 4, "seed": n, "temperature": 0.5 + n / 20, "top_k": 10 * n}
        | ({"classifier_free_guidance": 1} if n % 3 == 0 else {})
        for n in range(20)
    ]
    bodies = [service.wait(prediction_id) for prediction_id in [service.post(**value) for value in inputs]]
    assert {body["status"] for body in bodies} == {"succeeded"}
    contents = [unmarked(service.audio(body)) for body in bodies]
    assert len(set(contents)) == 20
    for body, content in zip(bodies, contents, strict=True):
        assert read_wav(content).shape == (1, body["input"]["duration"] * RATE)
    for n in (0, 7, 19):
        assert unmarked(service.audio(service.generate(**inputs[n]))) == contents[n]


def test_the_output_can_be_read_in_parts(service: Service) -> None:
    url = service.generate(prompt="x", duration=1)["output"]
    part = httpx.get(url, headers={"Range": "bytes=0-3"}, trust_env=False)
    assert (part.status_code, part.content) == (206, b"RIFF")
    assert httpx.get(url.replace("signature=", "signature=0"), trust_env=False).status_code == 404
