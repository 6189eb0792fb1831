"""Fine-tunes of a service that runs: added, used beside their base in the same batch, private, and removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import replicate

from cli.main import main
from musicgen_core.audio.ffmpeg import read_audio
from musicgen_core.checkpoints import hub
from tests.e2e.conftest import Service, serve
from tests.e2e.sound import RATE
from tests.musicgen_core.adapters.peft_adapters import write_adapter
from tests.provenance import tags_of

ANN, BOB = "a-token-of-ann", "a-token-of-bob"


@pytest.fixture(scope="module")
def adapters(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters for the model, as peft writes them."""
    from transformers import MusicgenMelodyForConditionalGeneration

    place = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("jazz", "punk")):
        model = MusicgenMelodyForConditionalGeneration.from_pretrained(model_folder)
        write_adapter(place / name, model, seed=seed, target_modules=["q_proj", "fc1"])
    return [place / "jazz", place / "punk"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Service]:
    """A service for Ann and Bob; its client is Ann's."""
    settings = {"MUSICGEN_MODEL": str(model_folder), "MUSICGEN_API_TOKENS": f"{ANN},{BOB}"}
    with serve(tmp_path_factory.mktemp("service"), **settings) as service:
        service.client.headers["Authorization"] = f"Bearer {ANN}"
        yield service


@pytest.fixture
def bob(running: Service) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {BOB}"}
    with httpx.Client(base_url=running.client.base_url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def command(
    running: Service, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs `musicgen models` with the service's settings, without that of its Redis; returns what it printed."""
    monkeypatch.setenv("MUSICGEN_DATA_DIR", str(running.data))
    monkeypatch.setenv("MUSICGEN_MODEL", str(model_folder))
    monkeypatch.setenv("MUSICGEN_API_TOKENS", f"{ANN},{BOB}")

    def run(*arguments: str) -> str:
        assert main(["models", *arguments]) == 0
        return capsys.readouterr().out.strip()

    return run


def ask(service: Service, version: str | None, **value: Any) -> str:
    """Ask for a second of music; returns the prediction's id."""
    body = {"input": {"prompt": "piano", "duration": 1, "seed": 5, **value}}
    answer = service.client.post("/predictions", json=body if version is None else {**body, "version": version})
    assert answer.status_code == 202, answer.text
    prediction_id: str = answer.json()["id"]
    return prediction_id


def sound(service: Service, body: dict[str, Any], folder: Path) -> bytes:
    path = folder / "output.wav"
    path.write_bytes(service.audio(body))
    return read_audio(path, sample_rate=RATE, channels=1, max_seconds=5).samples.tobytes()


def test_fine_tunes_appear_are_used_and_disappear_while_the_service_runs(
    running: Service,
    bob: httpx.Client,
    command: Any,
    adapters: list[Path],
    model_folder: Path,
    tmp_path: Path,
) -> None:
    worker = running.pid("worker")
    tenant = running.client.get("/v1/account").json()["username"]
    added = [command("add", str(folder), "--name", f"ann/{folder.name}", "--tenant", tenant) for folder in adapters]
    jazz, punk = added
    base = running.client.get("/models").json()["results"][0]["name"]

    # In one batch, each as if alone.
    asked: list[tuple[str | None, dict[str, Any]]] = [
        (jazz, {}),
        (None, {}),
        (punk, {}),
        (jazz, {"adapter_strength": 0.5}),
        (jazz, {"adapter_strength": 0.0}),
    ]
    together = [running.wait(prediction_id) for prediction_id in [ask(running, v, **value) for v, value in asked]]
    assert [body["status"] for body in together] == ["succeeded"] * len(asked), together
    assert max(body["started_at"] for body in together) < min(body["completed_at"] for body in together)
    sounds = [sound(running, body, tmp_path) for body in together]
    assert len(set(sounds[:4])) == 4
    assert sounds[4] == sounds[1]
    alone = running.wait(ask(running, jazz))
    assert sound(running, alone, tmp_path) == sounds[0]

    # What the record and the file say.
    body = together[0]
    name, _, version = jazz.partition(":")
    assert (body["model"], body["version"]) == (name, version) == ("ann/jazz", version)
    checksum = hub.checksum(model_folder)
    assert body["provenance"]["model_checksum"] == checksum
    assert (body["provenance"]["base"], body["provenance"]["adapter_checksum"]) == (f"{base}:{checksum}", version)
    assert together[1]["provenance"]["base"] is None
    path = tmp_path / "output.wav"
    path.write_bytes(running.audio(body))
    assert (tags_of(path)["AI_MODEL"], tags_of(path)["AI_MODEL_VERSION"]) == ("ann/jazz", version)
    again = running.client.post(f"/predictions/{body['id']}/rerun").json()
    assert running.audio(running.wait(again["id"])) == running.audio(body)

    # Private to Ann, until she says otherwise.
    request = {"version": jazz, "input": {"prompt": "piano", "duration": 1, "seed": 5}}
    assert bob.post("/predictions", json=request).status_code == 422
    assert running.client.patch("/v1/models/ann/jazz", json={"visibility": "public"}).status_code == 200
    accepted = bob.post("/predictions", json=request, headers={"Prefer": "wait"}, timeout=70)
    assert accepted.json()["version"] == version

    listed = command("list")
    assert all(reference in listed for reference in added)

    # Gone while the worker still holds the adapter.
    assert running.client.delete(f"/v1/models/ann/jazz/versions/{version}").status_code == 204
    assert running.client.post(f"/predictions/{body['id']}/rerun").status_code == 409
    assert running.client.post("/predictions", json=request).status_code == 422
    command("remove", "ann/punk")
    assert "ann/punk" not in command("list")
    assert list((running.data / "objects" / "adapters").iterdir()) == []
    assert running.pid("worker") == worker


def test_replicate_s_python_client_creates_a_model_and_runs_it(
    running: Service, command: Any, adapters: list[Path]
) -> None:
    client = replicate.Client(api_token=ANN, base_url=str(running.client.base_url).rstrip("/"), trust_env=False)
    made = client.models.create(
        owner="ann", name="swing", visibility="private", hardware="local", description="Big band."
    )
    assert (made.owner, made.name, made.visibility, made.description) == ("ann", "swing", "private", "Big band.")
    assert made.latest_version is None
    account = running.client.get("/v1/account").json()["username"]
    reference = command("add", str(adapters[0]), "--name", "ann/swing", "--tenant", account)
    found = client.models.get("ann/swing").latest_version
    assert found is not None
    assert reference == f"ann/swing:{found.id}"
    assert str(client.run(reference, input={"prompt": "x", "duration": 1})).startswith("http")
    client._client.close()  # noqa: SLF001 - the client has no public way to close its connections
