"""Trains the text encoder to classify a song's attributes from its caption.

MusicGen uses a pretrained T5 and does not train it. This encoder learns captions first, for about a minute, because the
text predicts only the first bars of a song: too little for the language model's loss to teach words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel

from training.captions import caption
from training.command import parse_arguments
from training.instruments import ARPEGGIOS, CHORDS, INSTRUMENTS, LEADS
from training.music import DENSITIES, FRAMES_PER_STEP, KEYS, SCALES, Style, random_style
from training.tokenizer import load_tokenizer
from training.trainer import Phase, Trainer

DIM = 128
BATCH = 96
LEARNING_RATE = 2e-3
WARM_UP = 50
TEXT_STREAM = 6

VALUES: dict[str, tuple[Any, ...]] = {
    "mode": tuple(SCALES),
    "key": tuple(KEYS),
    "pace": tuple(FRAMES_PER_STEP),
    "drums": (False, True),
    "brightness": ("dark", "bright"),
    "density": DENSITIES,
    "lead": (None, *LEADS),
    "chords": (None, *CHORDS),
    "arpeggio": (None, *ARPEGGIOS),
    "bass": (False, True),
    "solo": (None, *INSTRUMENTS),
}
"""The attributes to classify, each with its values."""


def text_config(vocabulary: int) -> T5Config:
    """The encoder's configuration; `vocabulary` is the size of the tokenizer's."""
    return T5Config(
        vocab_size=vocabulary, d_model=DIM, d_kv=32, d_ff=512, num_layers=2, num_heads=4,
        feed_forward_proj="relu", dropout_rate=0.0,
    )  # fmt: skip


class Classifier(nn.Module):
    """The encoder, with a linear classifier on the mean of its states for each attribute of `VALUES`."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder: Any = T5EncoderModel(text_config(vocabulary))
        self.heads = nn.ModuleDict({name: nn.Linear(DIM, len(values)) for name, values in VALUES.items()})

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Logits `[batch, values]` of each attribute, for token ids and their mask, `[batch, tokens]`."""
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return {name: head(mean) for name, head in self.heads.items()}


class TextTraining:
    """The classifier's training, with new captions at each step."""

    def __init__(self, tokenizer: Any, steps: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.model = Classifier(len(tokenizer)).to(device).train()
        self._tokenizer = tokenizer
        self._device = device
        self.trainer = Trainer(
            name="text_encoder",
            parts={"model": self.model},
            optimiser=torch.optim.AdamW(self.model.parameters(), LEARNING_RATE, weight_decay=0.01),
            phases=(Phase(steps, LEARNING_RATE),),
            seed=seed,
            stream=TEXT_STREAM,
            warm_up=WARM_UP,
        )

    def learn(self, random: np.random.Generator) -> dict[str, Tensor]:
        """The losses of one step in nats: each attribute's, and their mean."""
        styles = [random_style(random) for _ in range(BATCH)]
        encoded = self._tokenizer([caption(style, random) for style in styles], padding=True, return_tensors="pt")
        logits = self.model(encoded["input_ids"].to(self._device), encoded["attention_mask"].to(self._device))
        losses = {name: functional.cross_entropy(logits[name], targets(styles, name, self._device)) for name in VALUES}
        return {"loss": torch.stack(list(losses.values())).mean()} | losses


def targets(styles: list[Style], name: str, device: torch.device) -> Tensor:
    """The index in `VALUES[name]` of each style's value, `[batch]`."""
    return torch.tensor([VALUES[name].index(getattr(style, name)) for style in styles], device=device)


def main() -> None:
    """Train, or resume training, into a folder."""
    arguments = parse_arguments("text_encoder", __doc__, steps=1500)
    tokenizer = load_tokenizer(arguments.folder, arguments.seed)
    training = TextTraining(tokenizer, arguments.steps, arguments.seed, torch.device(arguments.device))
    training.trainer.resume(arguments.folder)
    training.trainer.train(training.learn, arguments.folder)
    training.model.encoder.save_pretrained(arguments.folder / "text_encoder")


if __name__ == "__main__":
    main()
