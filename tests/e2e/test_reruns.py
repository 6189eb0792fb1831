"""A rerun makes the same music byte by byte, and the record says which model and code made it."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import httpx

from musicgen_core.checkpoints import hub
from musicgen_core.options import OutputFormat
from predictions.version import package_version
from tests.e2e.conftest import Service
from tests.e2e.sound import clip, data_uri, measure
from tests.servers import wait_until

CLIP = clip(2, 330.0)
WAYS: dict[str, dict[str, Any]] = {
    "wav": {"prompt": "happy piano", "duration": 1},
    "mp3": {"prompt": "sad strings", "duration": 1, "output_format": "mp3"},
    "flac": {"prompt": "sad strings", "duration": 1, "output_format": "flac"},
    "wav24": {"prompt": "sad strings", "duration": 1, "output_format": "wav24"},
    "melody": {"prompt": "flute", "duration": 1, "input_audio": data_uri(CLIP)},
    "continuation": {"duration": 1, "input_audio": data_uri(CLIP), "continuation": True},
}


def rerun(service: Service, prediction_id: str) -> str:
    answer = service.client.post(f"/predictions/{prediction_id}/rerun")
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["rerun_of"] == prediction_id
    new_id: str = body["id"]
    assert new_id != prediction_id
    return new_id


def digests(service: Service, ids: list[str]) -> list[str]:
    bodies = [service.wait(prediction_id) for prediction_id in ids]
    assert [body["status"] for body in bodies] == ["succeeded"] * len(bodies), bodies
    return [hashlib.sha256(service.audio(body)).hexdigest() for body in bodies]


def test_the_same_bytes_alone_among_others_and_by_another_process(pocket: Service) -> None:
    """On two threads, which might add up in another order."""
    ids, first = [], []
    for value in WAYS.values():
        ids.append(pocket.post(**value))
        first += digests(pocket, ids[-1:])
    assert len(set(first)) == len(WAYS)
    others = [pocket.post(prompt=str(n), duration=1 + n % 2) for n in range(4)]
    reruns = [rerun(pocket, prediction_id) for prediction_id in ids]
    assert digests(pocket, reruns) == first
    digests(pocket, others)
    worker = pocket.pid("worker")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: pocket.pid("worker") != worker, seconds=60, process=pocket.process)
    assert digests(pocket, [rerun(pocket, prediction_id) for prediction_id in reruns]) == first


def test_the_record_says_with_what_it_was_made(service: Service, model_folder: Path) -> None:
    for output_format in OutputFormat:
        body = service.generate(prompt="x", duration=2, seed=3, output_format=output_format)
        loudness, peak = measure(service.audio(body))
        assert abs(body["metrics"]["loudness"] - loudness) < 0.2
        # Noise is loudest at the highest frequencies, where fourfold oversampling and ffmpeg's sixfold differ most.
        assert abs(body["metrics"]["true_peak"] - peak) < 0.5
        assert body["provenance"]["model_checksum"] == body["version"] == hub.checksum(model_folder)
        assert body["provenance"]["code_version"].startswith(package_version())
        assert body["provenance"]["input_audio_sha256"] is None
        assert body["rerun_of"] is None
        assert body["estimate"] is None


def test_what_workers_measured_says_when_the_next_one_ends(service: Service) -> None:
    service.generate(prompt="x", duration=1)
    body = service.get(service.post(prompt="x", duration=30))
    assert body["estimate"]["finish_seconds"] > 0
    service.client.post(body["urls"]["cancel"])


def test_audio_that_has_changed_since_is_not_taken_for_the_same(service: Service) -> None:
    """The audio behind a URL is downloaded again; here it is one of the service's own outputs."""
    path = service.generate(prompt="x", duration=1, seed=1)["output"]
    body = service.generate(duration=1, input_audio=path)
    content = httpx.get(path, trust_env=False).content
    assert body["provenance"]["input_audio_sha256"] == hashlib.sha256(content).hexdigest()
    assert digests(service, [rerun(service, body["id"])]) == digests(service, [body["id"]])
    (service.data / httpx.URL(path).path.lstrip("/")).write_bytes(clip(1))
    ended = service.wait(rerun(service, body["id"]))
    assert ended["status"] == "failed"
    assert "is not what it was for" in ended["error"]
    assert ended["provenance"]["input_audio_sha256"] == hashlib.sha256(clip(1)).hexdigest()
    # Its own repetition is still held to the first audio.
    assert service.wait(rerun(service, ended["id"]))["status"] == "failed"
