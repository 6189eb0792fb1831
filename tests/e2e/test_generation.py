"""The main job: a prompt, an audio file or both go in, music comes out at a URL."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import wave
from pathlib import Path

import httpx
import numpy as np
import pytest

from musicgen_core.audio_file import Waveform, decode, encode_wav, ffmpeg_path
from tests.e2e.conftest import Service

RATE = 32_000


def clip(seconds: float, frequency: float = 220.0, channels: int = 1) -> bytes:
    """A tone as a wav file."""
    tone = 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    return encode_wav(Waveform(np.tile(tone.astype(np.float32), (channels, 1)), RATE))


def data_uri(content: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(content).decode()}"


def read_wav(content: bytes) -> np.ndarray:
    """Samples `[channels, samples]` of a 16-bit wav file at 32 kHz."""
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (RATE, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.reshape(-1, file.getnchannels()).T / 32768


def measure(path: Path) -> float:
    """Integrated loudness in LUFS, by ffmpeg."""
    command = [ffmpeg_path(), "-hide_banner", "-i", str(path), "-af", "ebur128", "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return float(re.findall(r"I:\s+(-?[\d.]+) LUFS", said)[-1])


def test_ten_seconds_of_music(service: Service, tmp_path: Path) -> None:
    body = service.generate(prompt="warm lo-fi piano", duration=10)
    content = service.audio(body)
    samples = read_wav(content)
    assert samples.shape == (1, 10 * RATE)
    assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5
    path = tmp_path / "out.wav"
    path.write_bytes(content)
    loudness = measure(path)
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
    assert steps[-1] == ("100", "503", "503")


def test_mp3(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "out.mp3"
    path.write_bytes(service.audio(service.generate(prompt="drums", duration=2, output_format="mp3")))
    assert decode(path, sample_rate=RATE, channels=1, max_seconds=10).duration == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("strategy", ["loudness", "clip", "peak", "rms"])
def test_every_normalization(service: Service, strategy: str) -> None:
    body = service.generate(prompt="drums", duration=2, normalization_strategy=strategy)
    samples = read_wav(service.audio(body))
    peak, rms = np.abs(samples).max(), np.sqrt(np.mean(samples**2))
    assert peak <= 1.0
    if strategy in ("peak", "clip"):
        assert peak <= 10 ** (-1 / 20) + 1e-3
    if strategy == "peak":
        assert peak == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    if strategy == "rms":
        assert 20 * np.log10(rms) == pytest.approx(-18, abs=0.5)


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": ""},
        {"prompt": "x", "classifier_free_guidance": 0},
        {"prompt": "x", "classifier_free_guidance": 1},
        {"prompt": "x", "temperature": 0},
        {"prompt": "x", "top_k": 0},
        {"prompt": "x", "top_k": 5000},
        {"prompt": "x", "top_p": 0.9},
        {"prompt": "x", "seed": 0},
    ],
)
def test_sampling_settings_work(service: Service, value: dict[str, object]) -> None:
    body = service.generate(duration=1, **value)
    assert read_wav(service.audio(body)).shape == (1, RATE)


def test_a_melody_is_followed_whatever_way_it_is_sent(service: Service, tmp_path: Path) -> None:
    content = clip(3)
    uploaded = service.client.post("/files", files={"content": ("a.wav", content, "audio/wav")}).json()
    settings = {"prompt": "flute", "duration": 1, "seed": 5}
    by_file = service.generate(input_audio=uploaded["urls"]["get"], **settings)
    by_data = service.generate(input_audio=data_uri(content), **settings)
    assert by_data["input"]["input_audio"].startswith("http")
    without = service.generate(**settings)
    audio = service.audio(by_file)
    assert audio == service.audio(by_data)
    assert audio != service.audio(without)


def test_a_clip_is_continued(service: Service) -> None:
    source = data_uri(clip(3))
    extended = service.generate(input_audio=source, continuation=True, duration=2)
    assert read_wav(service.audio(extended)).shape == (1, 5 * RATE)
    total = service.generate(input_audio=source, continuation=True, duration=5, continuation_mode="total")
    assert read_wav(service.audio(total)).shape == (1, 5 * RATE)
    part = service.generate(input_audio=source, continuation=True, duration=2, continuation_start=1, continuation_end=2)
    assert read_wav(service.audio(part)).shape == (1, 3 * RATE)
    clamped = service.generate(input_audio=source, continuation=True, duration=2, continuation_end=99)
    assert read_wav(service.audio(clamped)).shape == (1, 5 * RATE)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"continuation_start": 3, "continuation": True, "duration": 2}, "only 3.00 s long"),
        ({"continuation": True, "duration": 28}, "30 s"),
        ({"continuation": True, "duration": 3, "continuation_mode": "total"}, "3.00 s long"),
    ],
)
def test_what_only_the_clip_can_tell_fails_with_a_clear_word(
    service: Service, value: dict[str, object], words: str
) -> None:
    body = service.wait(service.post(input_audio=data_uri(clip(3)), **value))
    assert body["status"] == "failed"
    assert words in body["error"]
    assert body["output"] is None


def test_what_is_no_audio_fails_with_a_clear_word(service: Service) -> None:
    body = service.wait(service.post(input_audio="data:audio/wav;base64,bm90IGF1ZGlv", duration=1))
    assert body["status"] == "failed"
    assert "audio" in body["error"]


def test_an_address_that_holds_nothing_fails_with_a_clear_word(service: Service) -> None:
    body = service.wait(service.post(input_audio="http://127.0.0.1:9/a.wav", duration=1))
    assert body["status"] == "failed"
    assert "http://127.0.0.1:9/a.wav" in body["error"]


def test_twenty_at_once_and_each_as_if_alone(service: Service) -> None:
    """Different lengths and settings together; the same request alone gives the same bytes."""
    inputs = [
        {"prompt": f"music {n}", "duration": 1 + n % 4, "seed": n, "temperature": 0.5 + n / 20, "top_k": 10 * n}
        | ({"classifier_free_guidance": 1} if n % 3 == 0 else {})
        for n in range(20)
    ]
    bodies = [service.wait(prediction_id) for prediction_id in [service.post(**value) for value in inputs]]
    assert {body["status"] for body in bodies} == {"succeeded"}
    contents = [service.audio(body) for body in bodies]
    assert len(set(contents)) == 20
    for body, content in zip(bodies, contents, strict=True):
        assert read_wav(content).shape == (1, body["input"]["duration"] * RATE)
    for n in (0, 7, 19):
        assert service.audio(service.generate(**inputs[n])) == contents[n]


def test_the_output_can_be_read_in_parts(service: Service) -> None:
    url = service.generate(prompt="x", duration=1)["output"]
    part = httpx.get(url, headers={"Range": "bytes=0-3"}, trust_env=False)
    assert (part.status_code, part.content) == (206, b"RIFF")
    assert httpx.get(url.replace("signature=", "signature=0"), trust_env=False).status_code == 404
