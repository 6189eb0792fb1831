"""Load a model with the backend that generates with it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch

from musicgen_core.abilities import WINDOW_SECONDS
from musicgen_core.backend import Backend, BackendName
from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.config import read_config
from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.codec.encodec import Codec, load_codec
from musicgen_core.conditioning.melody import load_melody_conditioner
from musicgen_core.conditioning.text import MAX_TOKENS, load_text_conditioner
from musicgen_core.device import (
    Dtype,
    choose_device,
    choose_dtype,
    choose_max_requests,
    describe,
    estimate_slot_bytes,
)
from musicgen_core.diffusion.checkpoint import load_diffusion
from musicgen_core.engine.engine import Engine
from musicgen_core.errors import CheckpointError, InvalidRequest
from musicgen_core.executor import PassingThread
from musicgen_core.kernels.library import choose_kernels
from musicgen_core.lm.transformer import LanguageModelConfig
from musicgen_core.native import NativeBackend, Parts

logger = logging.getLogger(__name__)


def load_backend(
    source: str | Path,
    *,
    backend: BackendName,
    device: str,
    dtype: Dtype,
    max_requests: int | None,
    max_seconds: int,
    stride_seconds: float,
    max_adapters: int,
) -> Backend:
    """Load a model from a folder or by its hub id; the parameters are those of `MusicGen.load`.

    Raises CheckpointError, InvalidRequest.
    """
    if backend == "audiocraft":
        # Imported here: nothing else in this package knows audiocraft, and few have it installed.
        from musicgen_core.audiocraft.backend import load_audiocraft

        return load_audiocraft(source, device=device, dtype=dtype, max_requests=max_requests, max_seconds=max_seconds)
    if not 1 <= stride_seconds < WINDOW_SECONDS:
        raise InvalidRequest(f"The stride must be 1 s or more and below {WINDOW_SECONDS} s, got {stride_seconds:g}.")
    if max_adapters < 0:
        raise InvalidRequest(f"The number of adapters in memory must be 0 or more, got {max_adapters}.")
    folder = hub.resolve(source)
    name = Path(source).resolve().name if Path(source).is_dir() else str(source)
    where = choose_device(device)
    numbers = choose_dtype(dtype, where)
    # Its OpenMP pool is to end with the loading: the engine's thread computes from then on.
    parts, summary = PassingThread().execute(
        lambda: _load_parts(folder, where, numbers, max_requests, max_adapters, int8=dtype == "int8")
    )
    logger.info("Loaded %s: %s", name, summary)
    return NativeBackend(folder, name, parts, max_seconds=max_seconds, stride_seconds=stride_seconds)


def _require_fit(folder: Path, config: LanguageModelConfig, codec: Codec) -> None:
    """Raise CheckpointError where the language model's tokens are not the codec's."""
    for what, wanted, found in (
        ("codebooks", config.codebooks, codec.codebooks),
        ("codes in each codebook", config.vocabulary, codec.codebook_size),
    ):
        if wanted != found:
            raise CheckpointError(
                f"The parts of {folder} do not fit together: its language model has {wanted} {what}, its codec {found} "
                "(from audio_encoder's target_bandwidths and codebook_size in config.json). Take the codec that the "
                "language model was trained with."
            )


def _load_parts(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    max_requests: int | None,
    max_adapters: int,
    *,
    int8: bool,
) -> tuple[Parts, str]:
    """The parts, and a line about them for the log."""
    raw, config = json.loads((folder / "config.json").read_text()), read_config(folder)
    kernels = choose_kernels() if device.type == "cpu" and dtype == torch.float32 else None
    language_model = load_language_model(folder, device=device, dtype=dtype, int8=int8, kernels=kernels)
    codec = load_codec(folder, raw, channels=config.audio_channels, device=device)
    _require_fit(folder, config, codec)
    text = load_text_conditioner(folder, raw, device=device)
    melody = None
    if config.chroma_bins is not None and config.chroma_frames is not None:
        melody = load_melody_conditioner(
            sample_rate=codec.sample_rate, bins=config.chroma_bins, frames=config.chroma_frames, device=device
        )
    frames = round(WINDOW_SECONDS * codec.frame_rate)
    requests = max_requests or choose_max_requests(estimate_slot_bytes(config, frames, dtype), device)
    engine = Engine(
        language_model,
        max_requests=requests,
        max_frames=frames,
        max_text_tokens=MAX_TOKENS,
        max_adapters=max_adapters,
    )
    diffusion = load_diffusion(folder, codec, engine)
    precision = "int8" if int8 else str(dtype).removeprefix("torch.")
    summary = (
        f"{language_model.size / 1e6:,.1f} M parameters, {precision} on {describe(device)}; {codec.sample_rate} Hz, "
        f"{'stereo' if codec.channels == 2 else 'mono'}, {'follows melodies' if melody else 'text only'}"
        f"{', MultiBand Diffusion' if diffusion else ''}; "
        f"requests at once: {requests}, {engine.slot_bytes / 2**20:,.1f} MiB each"
    )
    trained = not raw.get("random_weights", False)
    return Parts(engine, text, melody, codec, diffusion, requests, trained), summary
