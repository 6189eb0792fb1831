"""Music longer than 30 s, where the operator allows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.diffusion_model import STEPS, copy_with_diffusion
from tests.e2e.conftest import Service, serve
from tests.e2e.sound import RATE, clip, data_uri, read_wav, unmarked


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Service]:
    data = tmp_path_factory.mktemp("long")
    model = copy_with_diffusion(model_folder, tmp_path_factory.mktemp("diffusion") / "model")
    with serve(data, MUSICGEN_MODEL=str(model), MUSICGEN_MAX_DURATION="45") as service:
        yield service


def test_a_clip_is_continued_beyond_30_seconds(service: Service) -> None:
    """Two windows: the first has room for half a second, the second generates the rest."""
    wanted = {"input_audio": data_uri(clip(29.5)), "continuation": True, "duration": 1, "seed": 3}
    body = service.generate(**wanted)
    assert body["progress"]["fraction"] == 1.0
    assert "56/56" in body["logs"]  # 25 frames and 25, and 3 steps for the delays of each window
    assert body["metrics"]["duration"] == 30.5
    content = unmarked(service.audio(body))
    assert read_wav(content).shape == (1, 30.5 * RATE)
    assert unmarked(service.audio(service.generate(**wanted))) == content


def test_a_clip_longer_than_30_seconds_is_continued_to_a_total(service: Service) -> None:
    body = service.generate(
        input_audio=data_uri(clip(40)), continuation=True, continuation_mode="total", duration=41, output_format="mp3"
    )
    assert body["metrics"]["duration"] == 41.0


def test_multi_band_diffusion_of_more_than_30_seconds(service: Service) -> None:
    wanted = {"input_audio": data_uri(clip(29.5)), "continuation": True, "duration": 1, "seed": 3}
    wanted |= {"normalization_strategy": "peak"}
    body = service.generate(**wanted, multi_band_diffusion=True)
    assert f"{56 + STEPS}/{56 + STEPS}" in body["logs"]
    content = unmarked(service.audio(body))
    samples = read_wav(content)
    assert samples.shape == (1, 30.5 * RATE)
    assert 0.5 < abs(samples).max() <= 1
    assert unmarked(service.audio(service.generate(**wanted))) != content


def test_a_long_prediction_is_cancelled_between_steps(service: Service) -> None:
    prediction = service.post(prompt="x", duration=45)
    service.wait(prediction, "processing")
    service.client.post(f"/predictions/{prediction}/cancel")
    assert service.get(prediction)["status"] == "canceled"


def test_the_cap_is_announced_and_kept(service: Service) -> None:
    assert service.client.get("/health-check").json()["model"]["max_duration"] == 45
    schema = service.client.get("/openapi.json").json()["components"]["schemas"]["Input"]
    assert schema["properties"]["duration"]["maximum"] == 45
    answer = service.client.post("/predictions", json={"input": {"prompt": "x", "duration": 46}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["remedy"] == "it should be less than or equal to 45"
    body = service.wait(service.post(input_audio=data_uri(clip(40)), continuation=True, duration=6))
    assert body["status"] == "failed"
    assert "at most 45 s" in body["error"]
