"""Text conditioning: a prompt through T5's encoder.

As in MusicGen (Copet et al., "Simple and Controllable Music Generation", 2023, https://arxiv.org/abs/2306.05284). The
projection to the language model's width belongs to the language model.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import torch

from musicgen_core.checkpoints.pretrained import load_part, quiet_transformers
from musicgen_core.checkpoints.tensors import read_weights
from musicgen_core.errors import CheckpointError

logger = logging.getLogger(__name__)

MAX_TOKENS = 512
"""Longest text, the length that T5 was trained on."""
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
"""A model folder holds at least one of them."""


class TextConditioner:
    """T5's encoder and its tokenizer. Safe to use from several threads."""

    def __init__(self, encoder: Any, tokenizer: Any) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        # A fast tokenizer called by two threads at once raises "Already borrowed".
        self._tokenizer_lock = threading.Lock()

    @torch.inference_mode()
    def encode(self, prompt: str) -> torch.Tensor | None:
        """T5's last hidden states `[tokens, text_dim]`, float32; None for an empty prompt, which means "no text".

        Only the empty string is empty: audiocraft masks it, and encodes a blank like any other text. A longer prompt is
        cut to 512 tokens, with a warning in the log.
        """
        if prompt == "":
            return None
        with self._tokenizer_lock:
            tokens = self._tokenizer(prompt, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)
        if tokens["input_ids"].shape[1] == MAX_TOKENS:
            logger.warning("The prompt is too long: everything after its first %d tokens is ignored.", MAX_TOKENS)
        device = self._encoder.device
        states: torch.Tensor = self._encoder(
            input_ids=tokens["input_ids"].to(device), attention_mask=tokens["attention_mask"].to(device)
        ).last_hidden_state[0]
        return states


def load_text_conditioner(folder: Path, config: dict[str, Any], *, device: torch.device) -> TextConditioner:
    """Load T5 and its tokenizer from a model folder; `config` is the folder's config.json. Raises CheckpointError.

    T5 runs in float32 whatever the language model's type, as in audiocraft: it overflows in float16, and it runs only
    once per request.
    """
    from transformers.models.auto.tokenization_auto import AutoTokenizer
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    section = config.get("text_encoder", {})
    if section.get("model_type", "t5") != "t5":
        raise CheckpointError(f"The text encoder is {section['model_type']!r}; only T5 is supported.")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        # transformers would otherwise create a tokenizer without a vocabulary.
        raise CheckpointError(f"{folder} holds no tokenizer: one of {', '.join(TOKENIZER_FILES)} is needed.")
    encoder = load_part(T5EncoderModel, T5Config(**section), read_weights(folder, "text_encoder."), device)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"The tokenizer in {folder} cannot be read: {error}") from error
    return TextConditioner(encoder, tokenizer)
