"""Low-rank adaptation of the language model (Hu et al., "LoRA", 2021, https://arxiv.org/abs/2106.09685), with peft.

The base's weights stay as they are. Some examples lack their text or melody, so that guidance still works. Part of the
files is held out: its loss says when to stop, and the adapter is the one with which that was lowest. A training that
was stopped goes on from its checkpoint and ends with the same weights as one that was not.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from finetuning.errors import DatasetError, FineTuningCancelled, FineTuningError, ForeignCheckpoint, InvalidSettings
from finetuning.examples import Example
from finetuning.language_model import Batch, loss, make_batch
from musicgen_core.options import MAX_SEED

logger = logging.getLogger(__name__)

TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
"""The layers that are adapted: attention, of the music and of the text, and the feed-forward network."""
MAX_RANK = 256
CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 60.0
"""A checkpoint is written at each measurement, and once this much time has passed since the last one."""
USUAL_RATE, USUAL_WIDTH = 2e-4, 1024
"""The highest learning rate where none is given, for a model as wide as musicgen-small or wider."""
LEAST_RATE = 0.1
"""The learning rate at the end, relative to the highest."""

ORDER_STREAM, CONDITION_STREAM = 0, 1
"""Separate the random numbers of a seed's uses."""

Progress = Callable[[int, int, float], None]
"""Gets the steps done, the steps at most, and the last step's loss."""


@dataclass(frozen=True)
class LoraSettings:
    """How an adapter is trained. Raises InvalidSettings."""

    rank: int = 16
    """Of the matrices that are learnt. A high one learns a few clips by heart."""
    alpha: int | None = None
    """What is learnt counts alpha / rank times; None: twice."""
    dropout: float = 0.05
    """Share of the adapter's inputs that a step leaves out."""
    learning_rate: float | None = None
    """The highest one, after the warm-up; None: `usual_rate` of the base's width."""
    steps: int = 500
    """At most."""
    batch_size: int = 4
    """Pieces a step."""
    warm_up: int = 20
    """Steps over which the learning rate rises."""
    text_dropout: float = 0.2
    """Share of the examples without text and melody, which guidance compares with."""
    melody_dropout: float = 0.5
    """Share of the other examples without melody, so that a text alone is enough."""
    held_out: float = 0.1
    """Share of the files that is not trained on; at least one file, or one piece where there is one file only."""
    evaluate_every: int = 25
    """Steps between two measurements of the held-out loss, and between two checkpoints."""
    patience: int = 4
    """Measurements without a better one after which the training ends."""
    gradient_checkpointing: bool | None = None
    """Computes activations again instead of keeping them: less memory, more time. None: on GPUs."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("rank", 1, MAX_RANK),
            ("alpha", 1, 1 << 16),
            ("dropout", 0, 0.9),
            ("learning_rate", 1e-7, 1e-1),
            ("steps", 1, 1_000_000),
            ("batch_size", 1, 1024),
            ("warm_up", 0, 1_000_000),
            ("text_dropout", 0, 1),
            ("melody_dropout", 0, 1),
            ("held_out", 0.01, 0.9),
            ("evaluate_every", 1, 1_000_000),
            ("patience", 1, 1_000_000),
            ("seed", 0, MAX_SEED),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # false for NaN as well
                raise InvalidSettings(f"{name} must lie between {least:g} and {most:g}, got {value:g}.")

    @property
    def scaled_alpha(self) -> int:
        """The value of `alpha` that counts."""
        return 2 * self.rank if self.alpha is None else self.alpha


def usual_rate(width: int) -> float:
    """The highest learning rate for a model whose hidden states have `width` numbers; narrower ones take more.

    Under AdamW, the rate that suits matrices is inversely proportional to their width (Yang et al., "Tensor Programs
    V", 2022, https://arxiv.org/abs/2203.03466).
    """
    return USUAL_RATE * max(1.0, USUAL_WIDTH / width)


@dataclass(frozen=True)
class Measurement:
    """The losses at one time of the training, in nats per code."""

    step: int
    training: float | None
    """Mean of the steps since the last measurement; None before the first step."""
    held_out: float


def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """The examples to train on and those held out. Whole files are held out, the last pieces where there is only one.

    Raises DatasetError for fewer than two examples.
    """
    if len(examples) < 2:
        raise DatasetError(
            f"There are {len(examples)} pieces to train on, and one must be held out: send 2 at least, better 20."
        )
    names = sorted({example.piece.name for example in examples})
    if len(names) == 1:
        count = max(1, round(share * len(examples)))
        return list(examples[:-count]), list(examples[-count:])
    order = np.random.default_rng(seed).permutation(len(names))
    held = {names[index] for index in order[: max(1, round(share * len(names)))]}
    return (
        [example for example in examples if example.piece.name not in held],
        [example for example in examples if example.piece.name in held],
    )


class LoraTraining:
    """The training of one adapter."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        settings: LoraSettings,
        *,
        checkpoint: Path | None = None,
        on_checkpoint: Callable[[Path], object] = lambda _: None,
        identity: str = "",
    ) -> None:
        """Prepare it, or go on from the checkpoint.

        `model`: transformers' model, in place, on its device; it gets the adapter. `checkpoint`: a folder for the
        checkpoint, which is read if it holds one; `on_checkpoint` is called with its file whenever that is written.
        `identity`: says what is trained on what; a checkpoint of something else is refused. Raises DatasetError,
        FineTuningError.
        """
        self.settings = settings
        self.learnt, self.held_out = split(examples, settings.held_out, settings.seed)
        self.step = 0
        self.measurements: list[Measurement] = []
        self._recent: list[float] = []
        self._identity = f"{identity} {asdict(settings)}"
        self._checkpoint = checkpoint
        self._on_checkpoint = on_checkpoint
        self._saved_at = time.monotonic()
        self._base = model
        self._device: torch.device = model.device
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.scaled_alpha,
            lora_dropout=settings.dropout,
            target_modules=list(TARGETS),
        )
        with (
            warnings.catch_warnings(category=FutureWarning, action="ignore"),  # transformers', at what PEFT calls
            self._random_numbers(settings.seed),
        ):
            self.model: Any = get_peft_model(model, config)
        if settings.gradient_checkpointing or (settings.gradient_checkpointing is None and self._device.type == "cuda"):
            # The first is the newer name; older versions of transformers have the second alone.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.highest_rate = settings.learning_rate or usual_rate(model.config.decoder.hidden_size)
        self._optimiser = torch.optim.AdamW(self._parameters, self.highest_rate, weight_decay=0.01)
        self._best: dict[str, Tensor] = self._weights()
        self._resume()

    @property
    def best(self) -> Measurement:
        """The measurement after the first step with the lowest held-out loss; before the first step, that one."""
        return min(self.measurements[1:] or self.measurements, key=lambda each: each.held_out)

    def train(self, progress: Progress = lambda *_: None, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Train to the last step, or until the held-out loss has not improved for long; then take the best weights.

        `should_stop` is asked before each layer, so that a step need not end first. Raises FineTuningCancelled,
        FineTuningError where the loss is no longer a number.
        """
        with stoppable(self._base, should_stop):
            if not self.measurements:
                self._measure()
            while self.step < self.settings.steps and not self._is_stalled():
                self._recent.append(self._take_step())
                progress(self.step, self.settings.steps, self._recent[-1])
                if self.step % self.settings.evaluate_every == 0 or self.step == self.settings.steps:
                    self._measure()
                    self._save()
                elif time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                    self._save()
        set_peft_model_state_dict(self.model, self._best)
        self.model.eval()
        before, after = self.measurements[0].held_out, self.best.held_out
        logger.info("Held-out loss: %.3f before, %.3f after %d steps", before, after, self.best.step)
        if after >= before:
            logger.warning("The held-out loss did not improve: give more clips, or a lower learning rate.")

    def _is_stalled(self) -> bool:
        patience = self.settings.patience
        return len(self.measurements) > 1 + patience and self.best not in self.measurements[-patience:]

    def _take_step(self) -> float:
        """Learn from one batch. Its random numbers are the step's own."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate()
        self.model.train()
        with self._random_numbers(self.settings.seed * self.settings.steps + self.step):  # of the dropout
            computed = self._loss(self.batch(self.step))
            self._optimiser.zero_grad()
            computed.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        value = computed.item()
        if not (math.isfinite(value) and torch.isfinite(norm)):
            raise FineTuningError(
                f"The loss is no longer a number in step {self.step + 1}; choose a lower learning rate than "
                f"{self.highest_rate:g}."
            )
        self._optimiser.step()
        self.step += 1
        return value

    @contextmanager
    def _random_numbers(self, seed: int) -> Iterator[None]:
        """Draw torch's random numbers in the block from a seed, and leave those of the process alone."""
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def batch(self, step: int) -> Batch:
        """What a step learns from: each example occurs once before any occurs again."""
        settings, count = self.settings, len(self.learnt)
        chosen = []
        for index in range(step * settings.batch_size, (step + 1) * settings.batch_size):
            order = np.random.default_rng([settings.seed, ORDER_STREAM, index // count]).permutation(count)
            chosen.append(self.learnt[order[index % count]])
        random = np.random.default_rng([settings.seed, CONDITION_STREAM, step])
        has_text = random.random(len(chosen)) >= settings.text_dropout
        has_melody = has_text & (random.random(len(chosen)) >= settings.melody_dropout)
        return make_batch(chosen, self._base.config, has_text=has_text, has_melody=has_melody)

    def _loss(self, batch: Batch) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._base.dtype == torch.bfloat16):
            return loss(self._base, batch.to(self._device))

    @torch.no_grad()
    def _measure(self) -> None:
        """Measure the held-out loss, with text and without melody, as most people ask for music."""
        self.model.eval()
        total, codes = 0.0, 0
        for begin in range(0, len(self.held_out), self.settings.batch_size):
            part = self.held_out[begin : begin + self.settings.batch_size]
            everywhere = np.ones(len(part), bool)
            batch = make_batch(part, self._base.config, has_text=everywhere, has_melody=~everywhere)
            count = sum(example.codes.numel() for example in part)
            total, codes = total + count * self._loss(batch).item(), codes + count
        training = sum(self._recent) / len(self._recent) if self._recent else None
        self._recent = []
        self.measurements.append(Measurement(self.step, training, total / codes))
        logger.info("Step %d: loss %.3f held out, %.3f in training", self.step, total / codes, training or math.nan)
        if self.best == self.measurements[-1]:
            self._best = self._weights()

    def _learning_rate(self) -> float:
        """Of this step: a linear rise, then a cosine's fall to `LEAST_RATE`."""
        warmth = min(1.0, (self.step + 1) / max(1, self.settings.warm_up))
        fall = (1 + math.cos(math.pi * self.step / self.settings.steps)) / 2
        return self.highest_rate * warmth * (LEAST_RATE + (1 - LEAST_RATE) * fall)

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the adapter's weights."""
        state = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def _save(self) -> None:
        """Write the checkpoint, which appears complete or not at all."""
        if self._checkpoint is None:
            return
        self._checkpoint.mkdir(parents=True, exist_ok=True)
        unfinished = self._checkpoint / f"{CHECKPOINT}.partial"
        torch.save(
            {
                "identity": self._identity,
                "step": self.step,
                "measurements": [asdict(each) for each in self.measurements],
                "recent": self._recent,
                "weights": self._weights(),
                "best": self._best,
                "optimiser": self._optimiser.state_dict(),
            },
            unfinished,
        )
        unfinished.replace(self._checkpoint / CHECKPOINT)
        self._saved_at = time.monotonic()
        self._on_checkpoint(self._checkpoint / CHECKPOINT)

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self._checkpoint is None or not (path := self._checkpoint / CHECKPOINT).is_file():
            return
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["identity"] != self._identity:
            raise ForeignCheckpoint(
                f"{path} is the checkpoint of another training: of other files, another model or other settings. "
                "Delete it to start anew."
            )
        set_peft_model_state_dict(self.model, state["weights"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = state["best"]
        self.step = state["step"]
        self._recent = state["recent"]
        self.measurements = [Measurement(**each) for each in state["measurements"]]
        logger.info("Going on after step %d", self.step)


@contextmanager
def stoppable(model: Any, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Raise FineTuningCancelled in the block, before the next of the model's layers, once `should_stop` says so."""

    def ask(*_: object) -> None:
        if should_stop():
            raise FineTuningCancelled("The fine-tuning was cancelled.")

    # Inside the layers, where gradient checkpointing comes by again on its way back.
    handles = [layer.self_attn.register_forward_pre_hook(ask) for layer in model.decoder.model.decoder.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
