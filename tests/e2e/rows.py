"""The rows of `test_fields.py`: inputs, and the outcomes that a model gives for them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import torch

from musicgen_core.audio.ffmpeg import read_audio
from musicgen_core.checkpoints.noise_model import Kind, write_noise_model
from musicgen_core.codec.encodec import Codec, load_codec
from tests.diffusion_model import copy_with_diffusion
from tests.e2e.conftest import Service, serve
from tests.e2e.sound import RATE, Samples, read_wav, unmarked

KINDS: tuple[Kind, ...] = ("text", "melody", "stereo", "stereo-melody")
Fields = dict[str, Any]
PLAIN: Fields = {"prompt": "piano", "duration": 1, "seed": 7, "normalization_strategy": "clip"}
"""The fields of every row that does not change them. `clip` keeps the codec's level; None leaves a field out."""


class Outcome:
    """The outcome of one request."""

    def __init__(self, service: Service, fields: Fields) -> None:
        given = {name: value for name, value in (PLAIN | fields).items() if value is not None}
        self._service = service
        self._answer = service.client.post("/predictions", json={"input": given})

    @cached_property
    def ended(self) -> dict[str, Any]:
        """The prediction, once it has ended."""
        assert self._answer.status_code == 202, self._answer.text
        return self._service.wait(self._answer.json()["id"])

    @cached_property
    def body(self) -> dict[str, Any]:
        """The prediction, which has to have succeeded."""
        assert self.ended["status"] == "succeeded", self.ended
        return self.ended

    @cached_property
    def file(self) -> httpx.Response:
        return httpx.get(self.body["output"], trust_env=False)

    @property
    def content(self) -> bytes:
        """The file without its marks, which name the prediction: equal sound gives equal bytes."""
        return unmarked(self.file.content)

    @cached_property
    def samples(self) -> Samples:
        """The output, `[channels, samples]`."""
        return read_wav(self.content)

    @property
    def seconds(self) -> float:
        assert self.body["metrics"]["duration"] == self.samples.shape[1] / RATE
        return self.samples.shape[1] / RATE

    @property
    def failure(self) -> str:
        """The error of a prediction that failed."""
        assert (self.ended["status"], self.ended["output"]) == ("failed", None)
        error: str = self.ended["error"]
        return error

    @property
    def refused(self) -> dict[str, str]:
        """The fields because of which the request was refused, and what is wrong with each."""
        assert self._answer.status_code == 422, self._answer.text
        errors = self._answer.json()["errors"]
        assert all(error["message"] and error["remedy"] for error in errors)
        return {error["field"]: f"{error['message']}; {error['remedy']}" for error in errors}


@dataclass(frozen=True)
class Model:
    """A kind of model, its service, and the outcomes of all rows' inputs."""

    kind: Kind
    folder: Path
    service: Service
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        return 2 if "stereo" in self.kind else 1

    @property
    def melody(self) -> bool:
        return "melody" in self.kind

    def post(self, **fields: Any) -> Outcome:
        return Outcome(self.service, fields)

    def outcomes_of(self, row: Row) -> list[Outcome]:
        """The outcomes of the row's inputs. Equal inputs of several rows are posted once."""
        for key, fields in row.named_inputs():
            if key not in self.outcomes:
                self.outcomes[key] = self.post(**fields)
        return [self.outcomes[key] for key, _ in row.named_inputs()]

    @cached_property
    def codec(self) -> Codec:
        config = json.loads((self.folder / "config.json").read_text())
        return load_codec(self.folder, config, channels=self.channels, device=torch.device("cpu"))

    def read(self, content: bytes) -> Samples:
        """Decode any audio file to the model's channels and sample rate."""
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(content)
            return read_audio(Path(file.name), sample_rate=RATE, channels=self.channels, max_seconds=60).samples

    def rendered(self, content: bytes) -> Samples:
        """An audio file after the codec has encoded and decoded it."""
        codes = self.codec.encode(torch.from_numpy(self.read(content)))
        decoded: Samples = self.codec.decode(codes).numpy()
        return decoded


Check = Callable[..., None]


@dataclass(frozen=True)
class Row:
    """Inputs, and the check of their outcomes."""

    check: Check
    inputs: tuple[Fields, ...]

    def named_inputs(self) -> list[tuple[str, Fields]]:
        """Each input with its name. The second of two equal inputs has another name, so that it is posted too."""
        texts = [json.dumps(fields, sort_keys=True) for fields in self.inputs]
        return [(f"{text}{texts[:at].count(text)}", self.inputs[at]) for at, text in enumerate(texts)]


ROWS: dict[str, Row] = {}


def row(*inputs: Fields) -> Callable[[Check], Check]:
    """Make a row of a function that checks the model's outcomes of these inputs."""

    def add(check: Check) -> Check:
        name = check.__name__.replace("_", " ")
        assert name not in ROWS
        ROWS[name] = Row(check, inputs)
        return check

    return add


@contextmanager
def serving(kind: Kind, folder: Path) -> Iterator[Model]:
    """Serve one kind of model, with MultiBand Diffusion, and post all inputs to it."""
    plain = write_noise_model(folder / "plain", kind=kind)
    model = copy_with_diffusion(plain, folder / kind)
    # A worker with this much to do at once may renew its leases late; no worker dies here.
    with serve(folder / "data", MUSICGEN_MODEL=str(model), MUSICGEN_LEASE_SECONDS="60") as service:
        served = Model(kind, model, service)
        for each in ROWS.values():
            served.outcomes_of(each)
        yield served
