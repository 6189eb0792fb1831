"""The loop that all trainings share: learning-rate schedule, checkpoints to resume from, and printed losses."""

from __future__ import annotations

import bisect
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

SHOW_EVERY = 50
SAVE_EVERY = 200

Learn = Callable[[np.random.Generator], dict[str, Tensor]]
"""Computes the losses of one step by name, from the step's random stream."""


class Phase(NamedTuple):
    """A stretch of a training in which the learning rate rises and falls once."""

    steps: int
    learning_rate: float
    """Its peak."""


@dataclass
class Trainer:
    """A training and its progress.

    Every step has its own random stream, so that a training that was stopped and resumed ends with the same weights as
    one that was not.
    """

    name: str
    parts: dict[str, Any]
    """The objects with a `state_dict` that a checkpoint holds beside the progress."""
    optimiser: torch.optim.Optimizer
    phases: Sequence[Phase]
    """Each begins anew with a high learning rate (warm restarts: Loshchilov and Hutter, "SGDR", 2017)."""
    seed: int
    stream: int
    """Separates the random numbers of the stages."""
    warm_up: int
    """Steps at the beginning of each phase."""
    step: int = 0
    seconds: float = 0.0
    """Time spent in training so far, over all resumed runs."""
    last_loss: float = float("nan")

    @property
    def steps(self) -> int:
        """The steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def phase(self) -> int:
        """The present phase's number, from 0; after the last step, that of the last phase."""
        ends = list(itertools.accumulate(phase.steps for phase in self.phases))
        return min(bisect.bisect(ends, self.step), len(ends) - 1)

    def train(self, learn: Learn, folder: Path, until: int | None = None) -> None:
        """Train to the last step, or to `until`; `learn` computes one step's losses, of which "loss" is minimised.

        Writes a checkpoint into `folder` regularly and at the end.
        """
        end = self.steps if until is None else until
        recent: list[dict[str, float]] = []
        last = time.monotonic()
        while self.step < end:
            recent.append(self._take_step(learn))
            self.seconds, last = self.seconds + time.monotonic() - last, time.monotonic()
            if self.step % SHOW_EVERY == 0 or self.step == end:
                self._show(recent)
                recent = []
            if self.step % SAVE_EVERY == 0 or self.step == end:
                self.save(folder)
                last = time.monotonic()

    def _take_step(self, learn: Learn) -> dict[str, float]:
        random = np.random.default_rng([self.stream, self.seed, self.step])
        torch.manual_seed(int(random.integers(2**31)))
        for group in self.optimiser.param_groups:
            group["lr"] = self._scheduled_rate()
        losses = learn(random)
        self.optimiser.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        learnt = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        self.optimiser.step()
        if "average" in self.parts:
            self.parts["average"].update_parameters(self.parts["model"])
        self.step += 1
        values = {title: loss.item() for title, loss in losses.items()}
        self.last_loss = values["loss"]
        return values

    def _show(self, recent: list[dict[str, float]]) -> None:
        """Print the mean losses of recent steps; a loss may occur in some of them only."""
        titles = dict.fromkeys(title for losses in recent for title in losses)
        means = {title: float(np.mean([losses[title] for losses in recent if title in losses])) for title in titles}
        shown = ", ".join(f"{title} {mean:.3f}" for title, mean in means.items())
        print(f"{self.name} {self.step}/{self.steps}: {shown} ({self.seconds:.0f} s)", flush=True)

    def _scheduled_rate(self) -> float:
        """The learning rate of this step: a linear warm-up times a cosine decay to a fiftieth."""
        phase = self.phases[self.phase]
        step = self.step - sum(phase.steps for phase in self.phases[: self.phase])
        progress = min(1.0, step / phase.steps)
        warmth = min(1.0, (step + 1) / self.warm_up)
        return phase.learning_rate * warmth * (0.51 + 0.49 * float(np.cos(np.pi * progress)))

    def save(self, folder: Path) -> None:
        """Write a checkpoint, which appears complete or not at all."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        unfinished = folder / f"{self.name}.partial"
        torch.save(
            states | {"optimiser": self.optimiser.state_dict(), "step": self.step, "seconds": self.seconds}, unfinished
        )
        unfinished.replace(folder / f"{self.name}.pt")

    def resume(self, folder: Path) -> None:
        """Load the checkpoint in `folder`, if there is one."""
        path = folder / f"{self.name}.pt"
        if path.is_file():
            state = torch.load(path, weights_only=True, map_location="cpu")
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]
