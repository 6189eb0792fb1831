"""An engine in a process of its own, which is idle until it is asked for the next round: both ends of the pipe.

The child's standard input and output carry one JSON object a line. What libraries print goes to a log, whose end is
part of the error where the child ends.
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

from benchmarks.peers.models import MODELS, PeerModel

ROOT = Path(__file__).resolve().parents[2]
LOG_CHARACTERS = 2000
"""How much of a child's log an error shows."""
SOUND_STEP = 101
"""Of a sound, every 101st sample is sent back, for comparison."""


class PeerError(RuntimeError):
    """A child ended, or its music is not the others'. Of a child that ended, the message has the end of its log."""


@dataclass(frozen=True)
class Round:
    """What an engine is to do: `requests` of `frames` each, all at once, then the codec alone on `codec_frames`."""

    frames: int
    requests: int
    codec_frames: int
    greedy: bool = False
    """Take the likeliest tokens, so that the sounds of different engines can be compared."""


@dataclass(frozen=True)
class Timing:
    """An engine's measurements in one round."""

    steps: float
    """Decoding steps a second."""
    request: float
    """Seconds for all requests."""
    codec: float
    """Seconds for the codec alone."""
    samples: int
    """The length of each request's sound."""
    sound: list[float]
    """Every SOUND_STEP-th sample of the first request's sound."""
    codec_sound: list[float]
    """Every SOUND_STEP-th sample of the codec's sound."""


class Peer:
    """The parent's end: a context manager, at whose end the child is killed."""

    def __init__(self, name: str, python: Path | str, model: str, checkpoint: Path, device: str, dtype: str) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.peers.process", model, str(checkpoint.resolve()), device, dtype],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.about: str = self._answer()
        """Versions and number of threads, from the child once it has loaded the model."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def measure(self, round_: Round) -> Timing:
        """Have the child do one round, and wait for it. Raises PeerError."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the end of its log says why
            print(json.dumps(asdict(round_)), file=self._process.stdin, flush=True)
        return Timing(**self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the child, if it has not ended."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            log = self._log.read().decode(errors="replace")[-LOG_CHARACTERS:]
            self.close()
            raise PeerError(f"{self.name} ended with {code}:\n{log}")
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
            print(json.dumps(asdict(_measure(model, Round(**json.loads(line))))), file=answers, flush=True)


def _measure(model: PeerModel, round_: Round) -> Timing:
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
