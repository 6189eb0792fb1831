"""From an archive to an adapter: read, train, play before and after, and write a folder.

The folder has PEFT's form (`adapter_config.json`, `adapter_model.safetensors`), with the training's record beside it
(`training.json`) and short samples.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetuning.dataset import DatasetSettings, Piece, digest
from finetuning.errors import FineTuningError, InvalidSettings
from finetuning.examples import read_examples
from finetuning.language_model import load_model
from finetuning.lora import LoraSettings, LoraTraining, Measurement, Progress, stoppable
from musicgen_core.abilities import WINDOW_SECONDS
from musicgen_core.audio.files import write_audio
from musicgen_core.audio.waveform import Waveform
from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.atomic_directory import atomic_directory
from musicgen_core.checkpoints.config import read_config
from musicgen_core.conditioning.text import load_tokenizer
from musicgen_core.device import choose_device, describe
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.lm.transformer import LanguageModelConfig
from musicgen_core.own_sampling import read_own_sampling

logger = logging.getLogger(__name__)

SAMPLES = 3
SAMPLE_SECONDS = 8.0
LIBRARIES = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class FineTuned:
    """What came of a fine-tuning."""

    folder: Path
    """The adapter's."""
    table: list[Piece]
    """What was taken and what was dropped."""
    measurements: list[Measurement]
    """The first is from before the training."""
    best: Measurement
    """The one whose weights were taken."""
    samples: list[tuple[str, Path, Path]]
    """Captions, each with music made before and after the training from the same seed."""


def fine_tune(
    archive: Path,
    base: str | Path,
    output: Path,
    *,
    data: DatasetSettings | None = None,
    settings: LoraSettings | None = None,
    device: str = "auto",
    checkpoint: Path | None = None,
    on_checkpoint: Callable[[Path], object] = lambda _: None,
    base_name: str | None = None,
    sample_seconds: float = SAMPLE_SECONDS,
    progress: Progress = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FineTuned:
    """Train an adapter on an archive's music and write it into the new folder `output`.

    `archive`: a zip, tar or tar.gz of audio and captions, or one audio file. `base`: a model folder or hub id.
    `device`: auto, cuda or cpu. `checkpoint`: a folder to go on from after an interruption; `on_checkpoint` is called
    with the file in it whenever that is written. `base_name`: what the adapter calls its base, if not `base`.
    `sample_seconds`: length of the samples; 0: none. Raises FineTuningError, CheckpointError, OSError.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FineTuningError(f"{output} exists; choose another folder to write to.")
    if not 0 <= sample_seconds <= WINDOW_SECONDS:
        raise InvalidSettings(f"Samples last 0 to {WINDOW_SECONDS} s; {sample_seconds:g} s were asked for.")
    data, settings = data or DatasetSettings(), settings or LoraSettings()
    folder, where = hub.resolve(base), choose_device(device)
    config, checksum, sampling = read_config(folder), hub.checksum(folder), read_own_sampling(folder)
    table, examples = read_examples(archive, folder, data, device=where, should_stop=should_stop)
    model = load_model(folder, device=where, dtype=_dtype(where))
    identity = hashlib.sha256(f"{checksum} {digest(table)}".encode()).hexdigest()
    training = LoraTraining(
        model, examples, settings, checkpoint=checkpoint, on_checkpoint=on_checkpoint, identity=identity
    )
    began = time.monotonic()
    training.train(progress, should_stop)
    captions = list(dict.fromkeys(example.piece.caption or "" for example in training.held_out))[:SAMPLES]
    if not sample_seconds:
        captions = []
    record = {
        "base": {"name": base_name or str(base), "checksum": checksum},
        "settings": asdict(settings) | {"learning_rate": training.highest_rate},
        "data": {
            "digest": digest(table),
            "pieces": len(examples),
            "held_out": len(training.held_out),
            "dropped": sum(piece.dropped_reason is not None for piece in table),
            "seconds": round(sum(example.piece.seconds for example in examples), 1),
        },
        "held_out_loss": {"before": training.measurements[0].held_out, "after": training.best.held_out},
        "best_step": training.best.step,
        "measurements": [asdict(each) for each in training.measurements],
        "samples": captions,
        "seconds": round(time.monotonic() - began, 1),
        "device": describe(where),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    with atomic_directory(output) as unfinished, stoppable(model, should_stop):
        # PEFT would name the base by its folder on this machine.
        training.model.peft_config["default"].base_model_name_or_path = base_name or str(base)
        training.model.save_pretrained(str(unfinished), save_embedding_layers=False)
        (unfinished / "README.md").unlink()  # PEFT's form for people to fill in
        (unfinished / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        for number, caption in enumerate(captions, 1):
            tokens = torch.tensor([load_tokenizer(folder)(caption)], device=where)
            with training.model.disable_adapter():
                before = play(model, tokens, config, sampling, seconds=sample_seconds, seed=settings.seed)
            after = play(model, tokens, config, sampling, seconds=sample_seconds, seed=settings.seed)
            for music, path in zip((before, after), _sample_paths(unfinished, number), strict=True):
                write_audio(path, music)
    samples = [(caption, *_sample_paths(output, number)) for number, caption in enumerate(captions, 1)]
    return FineTuned(output, table, training.measurements, training.best, samples)


def _sample_paths(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"sample-{number}-before.wav", folder / f"sample-{number}-after.wav"


def _dtype(device: torch.device) -> torch.dtype:
    """The base's number type; the adapter's is float32. float16 would need its gradients scaled."""
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


@torch.inference_mode()
def play(
    model: Any, tokens: Tensor, config: LanguageModelConfig, sampling: SamplingParams, *, seconds: float, seed: int
) -> Waveform:
    """Music for a text's tokens `[1, tokens]`, by transformers' own generation; `model`: transformers'."""
    with torch.random.fork_rng([tokens.device] if tokens.device.type == "cuda" else []):
        torch.manual_seed(seed)
        samples = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=sampling.temperature > 0,
            temperature=sampling.temperature or None,
            # In our requests a top-p replaces the top-k; to transformers, 0 and 1 are none of them.
            top_k=0 if sampling.top_p else sampling.top_k,
            top_p=sampling.top_p or 1.0,
            guidance_scale=sampling.guidance,
            max_new_tokens=round(seconds * config.frame_rate) + max(config.delays),
        )[0]
    return Waveform(np.ascontiguousarray(samples.float().cpu().numpy()), config.sample_rate)
