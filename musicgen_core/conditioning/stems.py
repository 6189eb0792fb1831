"""Stem separation: removes drums and bass, which say little about the tune, before a melody is read; or the vocals.

Uses demucs' `htdemucs` (Rouard et al., "Hybrid Transformers for Music Source Separation", 2023,
https://arxiv.org/abs/2211.08553) where the package and its weights are installed. Knows nothing of chroma.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Self

import torch

logger = logging.getLogger(__name__)

MELODIC = ("vocals", "other")
"""The stems that a melody is read from."""
INSTRUMENTAL = ("drums", "bass", "other")
"""The stems of music without its vocals."""
HUB_FILE = ("adefossez/HTDemucs", "955717e8.safetensors")
"""Repository and file of htdemucs' weights, which demucs 4.1 and later keep in the Hugging Face cache."""
TORCH_HUB_FILE = "955717e8-8726e21a.th"
"""File of the same weights, which demucs up to 4.0 keeps in torch.hub's folder."""


class StemSeparator:
    """A loaded separation model."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model.to(device).eval()
        self._device = device

    @classmethod
    def load(cls, device: torch.device) -> Self | None:
        """Load the separator; None, with a log line, where demucs or its weights are not installed.

        Never uses the network: a job must not wait for a download.
        """
        try:
            from demucs.states import load_model
        except ImportError:
            logger.info("Melodies are read from the whole mix: demucs is not installed (pip install demucs).")
            return None
        weights = _find_weights()
        if weights is None:
            logger.info(
                "Melodies are read from the whole mix: demucs' weights are not on this machine. Fetch them: "
                "python -c \"from demucs.pretrained import get_model; get_model('htdemucs')\""
            )
            return None
        if weights.suffix == ".safetensors":
            from demucs.hf import load_safetensors_model

            return cls(load_safetensors_model(weights), device)
        return cls(load_model(weights), device)

    def without_rhythm(self, waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
        """Vocals and other instruments of a `[channels, samples]` waveform, as mono `[1, samples]` at the same rate."""
        return self._separate(waveform, sample_rate, MELODIC, channels=1)

    def without_vocals(self, waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
        """All but the vocals of a waveform `[1 or 2 channels, samples]`, in the same shape and at the same rate."""
        channels, samples = waveform.shape
        instrumental = self._separate(waveform, sample_rate, INSTRUMENTAL, channels=channels)
        # Two changes of the sample rate may add a sample or lose one.
        return torch.nn.functional.pad(instrumental, (0, max(0, samples - instrumental.shape[1])))[:, :samples]

    @torch.inference_mode()
    def _separate(
        self, waveform: torch.Tensor, sample_rate: int, kept: tuple[str, ...], *, channels: int
    ) -> torch.Tensor:
        """The sum of some stems.

        audiocraft lets demucs shift its input by a random offset. Here nothing is shifted, so that the same request
        gives the same music.
        """
        from demucs.apply import apply_model
        from demucs.audio import convert_audio

        model_rate, model_channels = self._model.samplerate, self._model.audio_channels
        mix = convert_audio(waveform, sample_rate, model_rate, model_channels)
        stems = apply_model(self._model, mix[None], device=self._device, shifts=0)[0]
        mixed = stems[[self._model.sources.index(name) for name in kept]].sum(dim=0)
        separated: torch.Tensor = convert_audio(mixed, model_rate, sample_rate, channels)
        return separated


def _find_weights() -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(*HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / TORCH_HUB_FILE
    return downloaded if downloaded.is_file() else None
