"""Text conditioning: a prompt through T5's encoder.

As in MusicGen (Copet et al., "Simple and Controllable Music Generation", 2023, https://arxiv.org/abs/2306.05284). The
projection to the language model's width belongs to the language model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from musicgen_core.checkpoints.tensors import read_weights
from musicgen_core.conditioning.t5 import T5Encoder, load_t5
from musicgen_core.errors import CheckpointError

logger = logging.getLogger(__name__)

MAX_TOKENS = 512
"""Longest text, the length that T5 was trained on."""
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
"""A model folder holds at least one of them; the first is preferred."""

Tokenize = Callable[[str], list[int]]
"""A text to T5's tokens."""


class TextConditioner:
    """T5's encoder and its tokenizer. Safe to use from several threads."""

    def __init__(self, encoder: T5Encoder, tokenize: Tokenize) -> None:
        self._encoder = encoder
        self._tokenize = tokenize

    @torch.inference_mode()
    def encode(self, prompt: str) -> torch.Tensor | None:
        """T5's last hidden states `[tokens, text_dim]`, float32; None for an empty prompt, which means "no text".

        Only the empty string is empty: audiocraft masks it, and encodes a blank like any other text. A longer prompt is
        cut to 512 tokens, with a warning in the log.
        """
        if prompt == "":
            return None
        tokens = self._tokenize(prompt)
        if len(tokens) == MAX_TOKENS:
            logger.warning("The prompt is too long: everything after its first %d tokens is ignored.", MAX_TOKENS)
        states: torch.Tensor = self._encoder(torch.tensor(tokens, device=self._encoder.device))
        return states


def load_text_conditioner(folder: Path, config: dict[str, Any], *, device: torch.device) -> TextConditioner:
    """Load T5 and its tokenizer from a model folder; `config` is the folder's config.json. Raises CheckpointError.

    T5 runs in float32 whatever the language model's type, as in audiocraft: it overflows in float16, and it runs only
    once per request.
    """
    section = config.get("text_encoder", {})
    if section.get("model_type", "t5") != "t5":
        raise CheckpointError(f"The text encoder is {section['model_type']!r}; only T5 is supported.")
    tokenize = load_tokenizer(folder)
    return TextConditioner(load_t5(section, read_weights(folder, "text_encoder."), device), tokenize)


def load_tokenizer(folder: Path) -> Tokenize:
    """The tokenizer of a model folder: its tokens end with that of the text's end, and are `MAX_TOKENS` at most.

    Safe to use from several threads. Raises CheckpointError.
    """
    for name, read in (("tokenizer.json", _read_json), ("spiece.model", _read_sentencepiece)):
        if (folder / name).is_file():
            try:
                return read(str(folder / name))
            except Exception as error:  # the libraries' errors have no type of their own
                raise CheckpointError(f"The tokenizer in {folder} cannot be read: {error}") from error
    raise CheckpointError(f"{folder} holds no tokenizer: one of {', '.join(TOKENIZER_FILES)} is needed.")


def _read_json(path: str) -> Tokenize:
    tokenizer = Tokenizer.from_file(path)
    # Set once: a tokenizer that one thread changes while another uses it raises "Already borrowed".
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)

    def tokenize(text: str) -> list[int]:
        tokens: list[int] = tokenizer.encode(text).ids
        return tokens

    return tokenize


def _read_sentencepiece(path: str) -> Tokenize:
    from sentencepiece import SentencePieceProcessor

    processor: Any = SentencePieceProcessor(model_file=path)
    return lambda text: [*processor.encode(text)[: MAX_TOKENS - 1], processor.eos_id()]
