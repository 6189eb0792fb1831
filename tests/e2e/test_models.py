"""Two models in one deployment, each with its worker."""

from __future__ import annotations

import json
from pathlib import Path

from musicgen_core.hub import checksum
from musicgen_core.noise_model import write_noise_model
from tests.e2e.conftest import serve
from tests.e2e.sound import read_wav


def test_each_model_plays_what_it_is_asked_for(tmp_path: Path) -> None:
    mono = write_noise_model(tmp_path / "mono", kind="text")
    write_noise_model(tmp_path / "stereo", kind="stereo")
    (tmp_path / "models.toml").write_text(
        f"""
        [[models]]
        name = "tests/mono"
        source = "mono"
        checksum = "{checksum(mono)}"
        default = true

        [[models]]
        name = "tests/stereo"
        source = "stereo"
        version = "first"
        defaults = {{ duration = 2 }}
        abilities = {{ max_duration = 5 }}
        """
    )
    with serve(tmp_path / "data", MUSICGEN_MODELS=str(tmp_path / "models.toml")) as service:
        versions = {None: 1, checksum(mono): 1, "tests/stereo": 2, "first": 2, "tests/stereo:first": 2}
        asked = [
            service.client.post("/predictions", json={"version": version, "input": {"prompt": "piano", "seed": 3}})
            for version in versions
        ]
        for answer, channels in zip(asked, versions.values(), strict=True):
            body = service.wait(answer.json()["id"])
            assert body["status"] == "succeeded", body
            assert body["model"] == ("tests/mono" if channels == 1 else "tests/stereo")
            samples = read_wav(service.audio(body))
            assert samples.shape == (channels, (8 if channels == 1 else 2) * 32_000)
        long = {"version": "first", "input": {"prompt": "piano", "duration": 6}}
        refused = service.client.post("/predictions", json=long)
        assert refused.status_code == 422
        assert "at most 5 s" in json.dumps(refused.json()["errors"])
        assert [model["workers"] for model in service.client.get("/models").json()["results"]] == [1, 1]
