"""Replicate's own Python client, unmodified but for its base URL, against a running service."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput
from replicate.webhook import Webhooks

from tests.e2e.conftest import Service
from tests.e2e.sound import unmarked
from tests.servers import wait_until
from tests.webhook_receiver import receiver


def client_for(service: Service) -> replicate.Client:
    # The tests do not go through the proxy of whoever runs them.
    return replicate.Client(
        api_token="none is asked for", base_url=str(service.client.base_url).rstrip("/"), trust_env=False
    )


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[replicate.Client]:
    client = client_for(service)
    yield client
    client._client.close()  # noqa: SLF001 - the client has no public way to close its connections


@pytest.fixture(scope="module")
def model(service: Service) -> str:
    name: str = service.client.get("/models").json()["results"][0]["name"]
    return name


@pytest.fixture(scope="module")
def version(client: replicate.Client, model: str) -> str:
    latest = client.models.get(model).latest_version
    assert latest is not None
    return latest.id


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 32_000, 0, "NONE", ""))
        tone = np.sin(np.arange(32_000) * 2 * np.pi * 440 / 32_000) * 8_000
        file.writeframes(tone.astype("<i2").tobytes())
    return path


def seconds(sound: bytes) -> float:
    with wave.open(io.BytesIO(sound)) as file:
        return file.getnframes() / file.getframerate()


def test_run_returns_a_url_that_the_client_reads(client: replicate.Client, model: str, version: str) -> None:
    for reference in (model, f"{model}:{version}"):
        url = client.run(reference, input={"prompt": "piano", "duration": 1})
        # The client gives a FileOutput for https alone, and the plain URL else; it reads both in the same way.
        output = FileOutput(url, client)
        assert seconds(output.read()) == 1
        assert b"".join(output) == output.read()


def test_run_takes_audio_as_a_file_a_url_and_a_data_uri(
    client: replicate.Client, model: str, clip: Path, service: Service
) -> None:
    with clip.open("rb") as opened:
        by_file = client.run(model, input={"input_audio": opened, "continuation": True, "duration": 1, "seed": 3})
    uploaded = client.files.create(clip)
    by_url = client.run(
        model, input={"input_audio": uploaded.urls["get"], "continuation": True, "duration": 1, "seed": 3}
    )
    with clip.open("rb") as opened:
        by_data = client.run(
            model,
            input={"input_audio": opened, "continuation": True, "duration": 1, "seed": 3},
            file_encoding_strategy="base64",
        )
    sounds = {unmarked(FileOutput(url, client).read()) for url in (by_file, by_url, by_data)}
    assert [seconds(sound) for sound in sounds] == [2]


def test_a_prediction_is_created_read_waited_for_and_listed(client: replicate.Client, version: str, model: str) -> None:
    prediction = client.predictions.create(version=version, input={"prompt": "a", "duration": 2, "seed": 7})
    assert (prediction.status, prediction.model, prediction.version) == ("starting", model, version)
    assert client.predictions.get(prediction.id).id == prediction.id
    prediction.wait()
    assert prediction.status == "succeeded"
    assert prediction.error is None
    assert prediction.metrics is not None
    assert prediction.metrics["predict_time"] > 0
    assert prediction.logs is not None
    assert prediction.logs.startswith("Using seed 7")
    assert prediction.progress is not None
    assert prediction.progress.percentage == 1
    assert prediction.input["seed"] == 7
    prediction.reload()
    assert prediction.completed_at is not None
    assert client.predictions.list().results[0].id == prediction.id


def test_whoever_stops_waiting_goes_on_polling(client: replicate.Client, version: str) -> None:
    prediction = client.predictions.create(version=version, input={"prompt": "a", "duration": 15}, wait=1)
    assert prediction.status == "starting"
    prediction.wait()
    assert prediction.status == "succeeded"


def test_cancelling(client: replicate.Client, version: str) -> None:
    prediction = client.predictions.create(version=version, input={"prompt": "a", "duration": 30})
    prediction.cancel()
    assert prediction.status == "canceled"
    again = client.predictions.get(prediction.id)
    assert (again.status, again.output) == ("canceled", None)


def test_a_failed_generation_is_an_error_with_its_reason(client: replicate.Client, model: str, tmp_path: Path) -> None:
    noise = tmp_path / "not.wav"
    noise.write_bytes(b"this is no audio file" * 10)
    with noise.open("rb") as opened, pytest.raises(ModelError, match="audio") as failed:
        client.run(model, input={"input_audio": opened, "continuation": True})
    assert failed.value.prediction.status == "failed"


def test_async(service: Service, model: str, version: str) -> None:
    async def work() -> None:
        client = client_for(service)
        url = await client.async_run(model, input={"prompt": "piano", "duration": 1})
        assert seconds(await FileOutput(url, client).aread()) == 1
        made = [client.predictions.async_create(version=version, input={"prompt": "a", "duration": 1}) for _ in "abc"]
        predictions = await asyncio.gather(*made)
        assert len({prediction.id for prediction in predictions}) == 3
        for prediction in predictions:
            await prediction.async_wait()
            assert prediction.status == "succeeded"
        assert (await client.models.async_get(model)).latest_version is not None
        await client._async_client.aclose()  # noqa: SLF001 - as above

    asyncio.run(work())


def test_models_versions_and_deployments(client: replicate.Client, model: str, version: str) -> None:
    found = client.models.get(model)
    assert f"{found.owner}/{found.name}" == model
    assert [listed.url for listed in client.models.list()] == [found.url]
    [listed_version] = found.versions.list()
    assert found.versions.get(version).id == listed_version.id == version
    schemas = listed_version.openapi_schema["components"]["schemas"]
    assert schemas["Input"]["properties"]["duration"]["maximum"] == 30
    assert schemas["Output"] == {"title": "Output", "type": "string", "format": "uri"}
    deployment = client.deployments.get(model)
    assert deployment.current_release is not None
    assert deployment.current_release.version == version
    prediction = deployment.predictions.create(input={"prompt": "a", "duration": 1})
    prediction.wait()
    assert prediction.status == "succeeded"
    assert client.accounts.current().username == "local"
    assert [hardware.sku for hardware in client.hardware.list()] == ["local"]


def test_files(client: replicate.Client, clip: Path) -> None:
    file = client.files.create(clip, metadata={"of": "a test"})
    assert (file.name, file.size, file.metadata) == ("clip.wav", clip.stat().st_size, {"of": "a test"})
    assert client.files.get(file.id).checksums == file.checksums
    assert file.id in [listed.id for listed in client.files.list()]
    assert client.files.delete(file.id)
    assert file.id not in [listed.id for listed in client.files.list()]
    with pytest.raises(ReplicateError) as missing:
        client.files.get(file.id)
    assert missing.value.status == 404


def test_streaming(client: replicate.Client, version: str) -> None:
    prediction = client.predictions.create(version=version, input={"prompt": "a", "duration": 2}, stream=True)
    events = list(prediction.stream())
    assert events[-1].event.value == "done"
    assert json.loads(events[-1].data) == {}
    by_name = {event.event.value: event.data for event in events}
    assert by_name["output"].startswith("http")
    assert "Using seed" in "".join(event.data for event in events if event.event.value == "logs")


def test_webhooks_are_validated_by_the_client(client: replicate.Client, version: str) -> None:
    secret = client.webhooks.default.secret()
    with receiver() as hook:
        prediction = client.predictions.create(
            version=version, input={"prompt": "a", "duration": 1}, webhook=hook.url, webhook_events_filter=["completed"]
        )
        wait_until(lambda: len(hook.received) == 1)
    [(headers, body)] = hook.received
    Webhooks.validate(headers=dict(headers), body=body.decode(), secret=secret)
    told = json.loads(body)
    assert (told["id"], told["status"]) == (prediction.id, "succeeded")
    assert told["urls"]["get"].endswith(f"/v1/predictions/{prediction.id}")


def test_pages(client: replicate.Client, version: str) -> None:
    """250 predictions, which are cancelled before they start."""
    made = []
    for number in range(250):
        made.append(client.predictions.create(version=version, input={"prompt": str(number), "duration": 30}).id)
        client.predictions.cancel(made[-1])
    page = client.predictions.list()
    seen = [item.id for item in page.results]
    while page.next and len(seen) < 250:
        page = client.predictions.list(cursor=page.next)
        seen += [item.id for item in page.results]
    assert seen[:250] == made[::-1]


def test_what_is_wrong_is_told(client: replicate.Client, model: str, version: str) -> None:
    def refused(status: int, detail: str, **changes: object) -> None:
        request = {"version": version, "input": {"prompt": "a"}} | changes
        with pytest.raises(ReplicateError) as error:
            client.predictions.create(**request)
        assert error.value.status == status
        assert error.value.detail is not None
        assert detail in error.value.detail

    refused(422, "duration", input={"prompt": "a", "duration": 31})
    refused(422, "prompt", input={})
    refused(422, "version", version="0" * 64)
    with pytest.raises(ReplicateError) as error:
        client.run("nobody/nothing", input={"prompt": "a"})
    assert error.value.status == 404
    with pytest.raises(ReplicateError) as error:
        client.predictions.get("gone")
    assert error.value.status == 404


def test_what_means_nothing_here_is_dropped(client: replicate.Client, version: str) -> None:
    prediction = client.predictions.create(
        version=version, input={"prompt": "a", "duration": 1, "auth": "a secret", "model_version": "large"}
    )
    assert "secret" not in json.dumps(client.predictions.get(prediction.id).input)
    prediction.wait()
