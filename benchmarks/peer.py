"""One engine in a process of its own, which idles until it is told to do the next round: both ends of the pipe.

The child's standard input and output carry one JSON object a line. What libraries print goes to a log, whose end is
shown where the child dies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from benchmarks.peer_models import MODELS, PeerModel

ROOT = Path(__file__).resolve().parent.parent
LOG_SHOWN = 2000
"""Characters."""
SOUND_STEP = 101
"""Every so many samples are sent back, for comparison."""


class PeerError(RuntimeError):
    """A child ended; the message holds what it said last."""


@dataclass(frozen=True)
class Round:
    """What a child is told to do: requests of `frames` each, all at once, and the codec alone on `codec_frames`.

    greedy: the likeliest tokens, so that the sounds of different engines can be compared.
    """

    frames: int
    requests: int
    codec_frames: int
    greedy: bool = False


@dataclass(frozen=True)
class Timing:
    """What came of it. steps: decoding steps a second. request, codec: seconds. samples: of each sound.

    sound, codec_sound: every SOUND_STEP-th sample of the first request and of the codec's.
    """

    steps: float
    request: float
    codec: float
    samples: int
    sound: list[float]
    codec_sound: list[float]


class Peer:
    """The parent's end. A context manager: the child lives within it."""

    def __init__(self, name: str, python: Path | str, model: str, checkpoint: Path, device: str, dtype: str) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.peer", model, str(checkpoint.resolve()), device, dtype],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.about: str = self._answer()
        """Versions and threads; comes when the model is loaded."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, round_: Round) -> Timing:
        """Do one round and wait for it. Raises PeerError."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its last words say why
            print(json.dumps(asdict(round_)), file=self._process.stdin, flush=True)
        return Timing(**self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if it has not ended."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")[-LOG_SHOWN:]
            self.close()
            raise PeerError(f"{self.name} ended with {code}:\n{said}")
        return json.loads(line)


def main() -> None:
    """The child: arguments MODEL CHECKPOINT DEVICE DTYPE."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, checkpoint, device, dtype = sys.argv[1:]
    with torch.inference_mode():
        model: PeerModel = MODELS[name](Path(checkpoint), device, dtype)
        print(json.dumps(f"{model.versions}, {torch.get_num_threads()} threads"), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(asdict(_do(model, Round(**json.loads(line))))), file=answers, flush=True)


def _do(model: PeerModel, round_: Round) -> Timing:
    codes = torch.randint(2048, (4, round_.codec_frames), generator=torch.Generator().manual_seed(0))
    began = time.perf_counter()
    sounds, steps = model.make(round_.frames, round_.requests, greedy=round_.greedy)
    made = time.perf_counter()
    codec_sound = model.decode(codes)
    decoded = time.perf_counter()
    return Timing(
        steps=steps,
        request=made - began,
        codec=decoded - made,
        samples=sounds.shape[-1],
        sound=sounds[0, ::SOUND_STEP].tolist(),
        codec_sound=codec_sound[::SOUND_STEP].tolist(),
    )


if __name__ == "__main__":
    main()
