"""audiocraft's models with random weights; imports audiocraft.

Two things that audiocraft fetches from the web are replaced: T5 is read from a folder, and Demucs, which separates a
melody's stems, returns the sound unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from audiocraft.data.audio_utils import convert_audio
from audiocraft.models import MusicGen, builders
from audiocraft.modules.conditioners import ChromaStemConditioner, T5Conditioner
from omegaconf import OmegaConf
from torch import Tensor

from reference.cases import TEXT_ENCODER, Kind, Shape, codec_config, language_model_config
from reference.sounds import tune


@contextmanager
def offline(t5: Path) -> Iterator[None]:
    """Have audiocraft load T5 from the folder `t5`, by the folder's name and as `TEXT_ENCODER`."""
    width = json.loads((t5 / "config.json").read_text())["d_model"]
    names = (str(t5), TEXT_ENCODER)
    demucs = mock.MagicMock(sources=["drums", "bass", "other", "vocals"])
    demucs.to.return_value = demucs
    with (
        mock.patch.object(T5Conditioner, "MODELS", [*T5Conditioner.MODELS, *names]),
        mock.patch.object(T5Conditioner, "MODELS_DIMS", T5Conditioner.MODELS_DIMS | dict.fromkeys(names, width)),
        mock.patch.object(ChromaStemConditioner, "_get_stemmed_wav", _unseparated),
        mock.patch("demucs.pretrained.get_model", return_value=demucs),
    ):
        yield


def _unseparated(self: Any, wav: Tensor, sample_rate: int) -> Tensor:
    mono: Tensor = convert_audio(wav, sample_rate, self.sample_rate, 1)
    return mono


@torch.no_grad()
def language_model_state(kind: Kind, shape: Shape, t5: Path, seed: int) -> dict[str, Tensor]:
    """The state of an LMModel, built from its configuration as audiocraft builds it, in float16."""
    config = OmegaConf.create(language_model_config(kind, shape) | {"device": "cpu", "dtype": "float32"})
    config.conditioners.description.t5.name = str(t5)
    model = builders.get_lm_model(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        norm = ".norm" in name or "out_norm" in name
        scale = 1.0 if "emb." in name else 0.1 if norm else shape.weight_scale
        mean = 1.0 if norm and name.endswith("weight") else 0.0
        parameter.normal_(mean, scale, generator=generator)
    return _halved(model.state_dict())


@torch.no_grad()
def codec_state(shape: Shape, seed: int) -> dict[str, Tensor]:
    """The state of an EncodecModel in float16; codebooks are made of a sound's frames, so that all codes are used."""
    model = builders.get_compression_model(OmegaConf.create(codec_config(shape) | {"device": "cpu"})).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("weight_g"):
            parameter.fill_(1.2)
        else:
            fan = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.normal_(0, 0.05 if parameter.dim() == 1 else fan**-0.5, generator=generator)
    residual = model.encoder(torch.from_numpy(tune(CALIBRATION_SECONDS))[None])[0].T
    for layer in model.quantizer.vq.layers:
        book = layer._codebook  # noqa: SLF001 (the only way to the buffers of audiocraft's codebook)
        chosen = torch.randperm(len(residual), generator=generator)[: shape.vocabulary]
        frames = residual[chosen]
        spread = 0.1 * residual.std() * torch.randn(shape.vocabulary, residual.shape[1], generator=generator)
        book.embed.copy_(frames[torch.arange(shape.vocabulary) % len(frames)] + spread)
        book.inited.fill_(1)
        residual = residual - book.embed[book.quantize(residual)]
    return _halved(model.state_dict())


CALIBRATION_SECONDS = 10


def load(folder: Path) -> MusicGen:
    """A checkpoint through audiocraft's own loaders."""
    return MusicGen.get_pretrained(str(folder), device="cpu")


def melody_conditioner() -> Any:
    """audiocraft's chroma conditioner alone, as the melody models have it."""
    return ChromaStemConditioner(
        output_dim=8, sample_rate=32_000, n_chroma=12, radix2_exp=14, duration=30, match_len_on_eval=True, argmax=True
    )


def attributes(model: MusicGen, texts: list[str], melodies: list[Tensor] | None) -> Any:
    """The conditions of a batch, as `MusicGen.generate` prepares them."""
    # audiocraft prepares them only inside the functions that also decode.
    prepared, _ = model._prepare_tokens_and_attributes(texts, None, melody_wavs=melodies)  # noqa: SLF001
    return prepared


def fitted_chroma(conditioner: Any, melody: Any) -> Tensor:
    """One-hot chroma `[batch, frames, bins]` of a melody's condition, fitted to 30 s, before its projection."""
    # audiocraft returns only the projected chroma from its public functions.
    chroma: Tensor = conditioner._get_wav_embedding(melody)  # noqa: SLF001
    return chroma


def _halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state in float16, except the window of the chroma's spectrogram, which is not a weight."""
    return {name: tensor if name.endswith(".window") else tensor.half() for name, tensor in state.items()}
