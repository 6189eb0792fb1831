"""Train the text encoder: from a caption, what the song is like.

MusicGen takes T5, which knows language already, and leaves it as it is. This one learns captions first, for a minute
or so, because in a song only the first bars leave anything for the text to say: too little for the language
model's loss to teach words.
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
from training.instruments import ARPEGGIOS, CHORDS, LEADS
from training.music import DENSITIES, FRAMES_PER_STEP, KEYS, SCALES, Style, random_style
from training.tokenizer import load_tokenizer
from training.trainer import Trainer

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
    "chords": CHORDS,
    "arpeggio": (None, *ARPEGGIOS),
    "bass": (False, True),
}
"""What is to be named, and what it can be."""


def text_config(vocabulary: int) -> T5Config:
    """The encoder's configuration; `vocabulary` is the tokenizer's."""
    return T5Config(
        vocab_size=vocabulary, d_model=DIM, d_kv=32, d_ff=512, num_layers=2, num_heads=4,
        feed_forward_proj="relu", dropout_rate=0.0,
    )  # fmt: skip


class Classifier(nn.Module):
    """The encoder, and on the mean of its states a linear classifier for each of `VALUES`."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder: Any = T5EncoderModel(text_config(vocabulary))
        self.heads = nn.ModuleDict({name: nn.Linear(DIM, len(values)) for name, values in VALUES.items()})

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Logits `[batch, values]` by name, for token ids and their mask `[batch, tokens]`."""
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return {name: head(mean) for name, head in self.heads.items()}


class TextTraining:
    """The classifier, at work on captions drawn for each step."""

    def __init__(self, tokenizer: Any, steps: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.model = Classifier(len(tokenizer)).to(device).train()
        self._tokenizer = tokenizer
        self._device = device
        self.trainer = Trainer(
            name="text_encoder",
            parts={"model": self.model},
            optimiser=torch.optim.AdamW(self.model.parameters(), LEARNING_RATE, weight_decay=0.01),
            steps=steps,
            seed=seed,
            stream=TEXT_STREAM,
            learning_rate=LEARNING_RATE,
            warm_up=WARM_UP,
        )

    def learn(self, random: np.random.Generator) -> dict[str, Tensor]:
        """The losses of one step: their mean, and each attribute's, in nats."""
        styles = [random_style(random) for _ in range(BATCH)]
        encoded = self._tokenizer([caption(style, random) for style in styles], padding=True, return_tensors="pt")
        logits = self.model(encoded["input_ids"].to(self._device), encoded["attention_mask"].to(self._device))
        losses = {name: functional.cross_entropy(logits[name], targets(styles, name, self._device)) for name in VALUES}
        return {"loss": torch.stack(list(losses.values())).mean()} | losses


def targets(styles: list[Style], name: str, device: torch.device) -> Tensor:
    """Which of `VALUES[name]` each style has, `[batch]`."""
    return torch.tensor([VALUES[name].index(getattr(style, name)) for style in styles], device=device)


def main() -> None:
    """Train, or go on training, into a folder."""
    arguments = parse_arguments("text_encoder", __doc__, steps=1500)
    tokenizer = load_tokenizer(arguments.folder, arguments.seed)
    training = TextTraining(tokenizer, arguments.steps, arguments.seed, torch.device(arguments.device))
    training.trainer.resume(arguments.folder)
    training.trainer.run(training.learn, arguments.folder)
    training.model.encoder.save_pretrained(arguments.folder / "text_encoder")


if __name__ == "__main__":
    main()
