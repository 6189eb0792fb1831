"""What the language model learns from: the codes, the text and the melody of each piece, as a service would see them.

They are made by musicgen_core's own codec, T5 and chroma, whose weights are not trained, and made once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from finetuning.dataset import DatasetSettings, Piece, read_pieces
from musicgen_core.checkpoints.config import read_config
from musicgen_core.codec.encodec import load_codec
from musicgen_core.conditioning.melody import load_melody_conditioner
from musicgen_core.conditioning.text import load_text_conditioner


@dataclass(frozen=True)
class Example:
    """A piece as the language model sees it, on the CPU."""

    piece: Piece
    codes: Tensor
    """int64 `[codebooks, frames]`."""
    text: Tensor
    """T5's states of the caption, `[tokens, text_dim]`."""
    chroma: Tensor | None
    """One-hot `[chroma_frames, bins]`; None for a model that follows no melodies."""


def inspect(
    archive: Path, model: Path, settings: DatasetSettings, *, should_stop: Callable[[], bool] = lambda: False
) -> list[Piece]:
    """The table of an archive's pieces and captions, without any training: a dry run.

    `model`: the model's folder, of which only the sound's format matters. Raises what `read_pieces` raises.
    """
    config = read_config(model)
    pieces = read_pieces(
        archive,
        settings,
        sample_rate=config.sample_rate,
        channels=config.audio_channels,
        device=torch.device("cpu"),
        should_stop=should_stop,
    )
    return [piece for piece, _ in pieces]


def read_examples(
    archive: Path,
    model: Path,
    settings: DatasetSettings,
    *,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[list[Piece], list[Example]]:
    """The table of an archive, and what a model learns from it. Raises CheckpointError and what `read_pieces` raises.

    `model`: a model folder. `device`: where it is computed.
    """
    config, raw = read_config(model), json.loads((model / "config.json").read_text())
    codec = load_codec(model, raw, channels=config.audio_channels, device=device)
    text = load_text_conditioner(model, raw, device=device)
    melody = None
    if config.chroma_bins is not None and config.chroma_frames is not None:
        melody = load_melody_conditioner(
            sample_rate=config.sample_rate, bins=config.chroma_bins, frames=config.chroma_frames, device=device
        )
    table: list[Piece] = []
    examples: list[Example] = []
    texts: dict[str, Tensor] = {}
    for piece, sound in read_pieces(
        archive,
        settings,
        sample_rate=config.sample_rate,
        channels=config.audio_channels,
        device=device,
        should_stop=should_stop,
    ):
        table.append(piece)
        if sound is None or not piece.caption:
            continue
        if piece.caption not in texts:
            states = text.encode(piece.caption)
            assert states is not None  # it is not empty
            texts[piece.caption] = _kept(states)
        codes = codec.encode(torch.from_numpy(sound.samples))
        chroma = None if melody is None else _kept(melody.encode(sound))
        examples.append(Example(piece, _kept(codes), texts[piece.caption], chroma))
    return table, examples


def _kept(tensor: Tensor) -> Tensor:
    """A copy on the CPU that training may use; what inference mode made may not."""
    return tensor.detach().cpu().clone()
