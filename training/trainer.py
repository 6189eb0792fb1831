"""The loop that both trainings share: schedule, checkpoints that training goes on from, and losses on the screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHOW_EVERY = 50
SAVE_EVERY = 200


@dataclass
class Trainer:
    """What is trained, and how far it is. Every step draws from a random stream of its own, so that a run which was
    stopped and goes on ends with the weights of one that was not."""

    name: str
    parts: dict[str, Any]
    """What a checkpoint holds beside the progress: all that has a `state_dict`."""
    optimiser: torch.optim.Optimizer
    steps: int
    seed: int
    stream: int
    """Keeps the random numbers of the stages apart."""
    learning_rate: float
    warm_up: int
    step: int = 0
    seconds: float = 0.0
    """Spent in training so far, also before it was stopped."""
    last_loss: float = float("nan")

    def run(
        self, learn: Callable[[np.random.Generator], dict[str, Tensor]], folder: Path, until: int | None = None
    ) -> None:
        """Train to the last step, or to `until`. `learn` computes one step's losses, of which "loss" is minimised.

        Writes `folder`/name.pt now and then, and at the end.
        """
        end = self.steps if until is None else until
        sums: dict[str, float] = {}
        counted, last = 0, time.monotonic()
        learnt = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        while self.step < end:
            random = np.random.default_rng([self.stream, self.seed, self.step])
            torch.manual_seed(int(random.integers(2**31)))
            for group in self.optimiser.param_groups:
                group["lr"] = self._scheduled_rate()
            losses = learn(random)
            self.optimiser.zero_grad()
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            self.optimiser.step()
            if "average" in self.parts:
                self.parts["average"].update_parameters(self.parts["model"])
            self.step += 1
            self.last_loss = losses["loss"].item()
            for title, value in losses.items():
                sums[title] = sums.get(title, 0.0) + value.item()
            counted += 1
            self.seconds, last = self.seconds + time.monotonic() - last, time.monotonic()
            if self.step % SHOW_EVERY == 0 or self.step == end:
                shown = ", ".join(f"{title} {total / counted:.3f}" for title, total in sums.items())
                print(f"{self.name} {self.step}/{self.steps}: {shown} ({self.seconds:.0f} s)", flush=True)
                sums, counted = {}, 0
            if self.step % SAVE_EVERY == 0 or self.step == end:
                self.save(folder)
                last = time.monotonic()

    def _scheduled_rate(self) -> float:
        """Linear warm-up, then a cosine down to a fiftieth."""
        progress = min(1.0, self.step / self.steps)
        warmth = min(1.0, (self.step + 1) / self.warm_up)
        return self.learning_rate * warmth * (0.51 + 0.49 * float(np.cos(np.pi * progress)))

    def save(self, folder: Path) -> None:
        """Write all that is needed to go on; a checkpoint is whole or not there."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        unfinished = folder / f"{self.name}.partial"
        torch.save(
            states | {"optimiser": self.optimiser.state_dict(), "step": self.step, "seconds": self.seconds}, unfinished
        )
        unfinished.replace(folder / f"{self.name}.pt")

    def resume(self, folder: Path) -> None:
        """Go on where `save` stopped, if there is anything."""
        path = folder / f"{self.name}.pt"
        if path.is_file():
            state = torch.load(path, weights_only=True, map_location="cpu")
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]
