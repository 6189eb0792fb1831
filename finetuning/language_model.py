"""The language model as it is trained: transformers' own, its loss on the delay pattern, and what it is conditioned on.

What is left out of a batch, and how, is what MusicGen's own training left out (Copet et al., "Simple and Controllable
Music Generation", 2023, https://arxiv.org/abs/2306.05284): a text that is missing is zeros, a missing melody is the
first pitch class throughout. Guidance compares with exactly that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from finetuning.examples import Example
from musicgen_core.checkpoints.config import read_config
from musicgen_core.checkpoints.pretrained import quiet_transformers
from musicgen_core.lm.delay_pattern import apply_delays, codebook_delays, column_count

IGNORED = -100
"""The label of what has no part in the loss."""


class Batch(NamedTuple):
    """What one step learns from. Texts and pieces of different lengths are padded at their ends."""

    text: Tensor
    """T5's states `[batch, tokens, text_dim]`."""
    text_mask: Tensor
    """bool `[batch, tokens]`: False for padding, and all False for an example without text."""
    chroma: Tensor | None
    """One-hot `[batch, chroma_frames, bins]`; None for a model that follows no melodies."""
    columns: Tensor
    """Codes in the delay pattern, int64 `[batch, codebooks, columns]`; the first column is the start."""
    labels: Tensor
    """What follows each column but the last, `[batch, codebooks, columns - 1]`; `IGNORED` where that is padding."""

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


def load_model(folder: Path, *, device: torch.device, dtype: torch.dtype) -> Any:
    """Transformers' model of a folder, in evaluation mode; its codec stays in float32. Raises CheckpointError."""
    with quiet_transformers():
        if read_config(folder).is_melody:
            from transformers.models.musicgen_melody.modeling_musicgen_melody import (
                MusicgenMelodyForConditionalGeneration as Model,
            )
        else:
            from transformers.models.musicgen.modeling_musicgen import (  # type: ignore[assignment]
                MusicgenForConditionalGeneration as Model,
            )
        model: Any = Model.from_pretrained(folder, dtype=dtype)
    model.audio_encoder.float()
    return model.to(device).eval().requires_grad_(False)


def make_batch(
    examples: Sequence[Example], config: Any, *, has_text: NDArray[np.bool], has_melody: NDArray[np.bool]
) -> Batch:
    """Examples as one batch; `has_text`, `has_melody`: what each is conditioned on. `config`: transformers' model's."""
    padding, channels = config.decoder.vocab_size, config.decoder.audio_channels
    codebooks = config.decoder.num_codebooks
    delays = codebook_delays(codebooks, channels)
    longest = max(example.codes.shape[1] for example in examples)
    columns = torch.full((len(examples), codebooks, column_count(longest, delays)), padding)
    for row, example in enumerate(examples):
        delayed = apply_delays(example.codes, delays, padding)
        columns[row, :, : delayed.shape[1]] = delayed
    labels = columns[:, :, 1:]
    text = torch.nn.utils.rnn.pad_sequence([example.text for example in examples], batch_first=True)
    lengths = torch.tensor([len(example.text) if told else 0 for example, told in zip(examples, has_text, strict=True)])
    return Batch(
        text=text,
        text_mask=torch.arange(text.shape[1]) < lengths[:, None],
        chroma=_chroma(examples, has_melody),
        columns=columns,
        labels=labels.masked_fill(labels == padding, IGNORED),
    )


def _chroma(examples: Sequence[Example], has_melody: NDArray[np.bool]) -> Tensor | None:
    melodies = [example.chroma for example in examples if example.chroma is not None]
    if len(melodies) < len(examples):
        return None
    chroma = torch.stack(melodies)
    without = torch.zeros_like(chroma)
    without[:, :, 0] = 1
    return torch.where(torch.from_numpy(has_melody)[:, None, None], chroma, without)


def logits(model: Any, batch: Batch) -> Tensor:
    """What the model makes of each column but the last, `[batch, codebooks, columns - 1, vocabulary]`."""
    conditions = {"encoder_hidden_states": _project(model, "enc_to_dec_proj", batch.text) * batch.text_mask[..., None]}
    before = 0
    if batch.chroma is None:
        # Cross-attention. An example without text attends to zeros, as it does in inference.
        conditions["encoder_attention_mask"] = batch.text_mask | ~batch.text_mask.any(1, keepdim=True)
    else:
        chroma = _project(model, "audio_enc_to_dec_proj", batch.chroma)
        conditions["encoder_hidden_states"] = torch.cat([chroma, conditions["encoder_hidden_states"]], dim=1)
        before = conditions["encoder_hidden_states"].shape[1]
    inputs = batch.columns[:, :, :-1].flatten(0, 1)
    hidden = model.decoder.model.decoder(input_ids=inputs, use_cache=False, **conditions).last_hidden_state[:, before:]
    return torch.stack([head(hidden) for head in model.decoder.lm_heads], dim=1)


def _project(model: Any, name: str, states: Tensor) -> Tensor:
    """Conditions in the decoder's width; a model has no projection where the widths agree."""
    projection = getattr(model, name, None)
    states = states.to(model.dtype)
    projected: Tensor = states if projection is None else projection(states)
    return projected


def loss(model: Any, batch: Batch) -> Tensor:
    """The mean cross-entropy of the batch's codes in nats; padding has no part in it."""
    predicted = logits(model, batch).flatten(0, 2).float()
    return functional.cross_entropy(predicted, batch.labels.flatten(), ignore_index=IGNORED)
