"""The text encoder's tokenizer: a SentencePiece-style unigram model like T5's, learnt from captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace, Sequence, WhitespaceSplit
from tokenizers.trainers import UnigramTrainer
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from training.captions import caption
from training.music import random_style

VOCABULARY = 768
CAPTIONS = 20_000
TOKENIZER_STREAM = 3
SPECIAL = ["<pad>", "</s>", "<unk>"]


def load_tokenizer(folder: Path, seed: int) -> T5Tokenizer:
    """Load the tokenizer in `folder`/tokenizer; learn it first if there is none."""
    target = folder / "tokenizer"
    if not target.is_dir():
        T5Tokenizer(vocab=_learn_pieces(seed), extra_ids=0, model_max_length=512).save_pretrained(str(target))
    tokenizer: T5Tokenizer = T5Tokenizer.from_pretrained(str(target))
    return tokenizer


def _learn_pieces(seed: int) -> list[tuple[str, float]]:
    """Pieces and their log-probabilities, T5's three special ones first."""
    random = np.random.default_rng([TOKENIZER_STREAM, seed])
    captions = [caption(random_style(random), random) for _ in range(CAPTIONS)]
    # Prompts may be in any case, so pieces are learnt for all cases.
    captions += [text.lower() for text in captions] + [text.title() for text in captions[::4]]
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), Metaspace()])  # as T5Tokenizer splits
    trainer = UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False,
        initial_alphabet=[chr(code) for code in range(33, 127)],
    )  # fmt: skip
    tokenizer.train_from_iterator(captions, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["vocab"]
    pieces = [(piece, score) for piece, score in learnt if piece not in SPECIAL]
    if not any(piece == "▁" for piece, _ in pieces):
        pieces.append(("▁", min(score for _, score in pieces)))
    return [(piece, 0.0) for piece in SPECIAL] + pieces
