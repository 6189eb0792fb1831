"""What a request is conditioned on: its text, through T5, and its melody, as a chromagram.

Shapes follow MusicGen (Copet et al., "Simple and Controllable Music Generation", 2023) as audiocraft 1.3 runs
it. The projections to the language model's width belong to the language model.
"""

from __future__ import annotations

import logging
import math
import threading
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from musicgen_core.audio.waveform import Waveform
from musicgen_core.checkpoints.layout import read_weights
from musicgen_core.checkpoints.pretrained import load_part, quiet_transformers
from musicgen_core.conditioning.stems import StemSeparator
from musicgen_core.errors import CheckpointError

logger = logging.getLogger(__name__)

MAX_TOKENS = 512
"""Of a text; what T5 was trained on."""
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
N_FFT = 16_384
HOP = 4096


class TextConditioner:
    """T5's encoder and its tokenizer. Safe to use from several threads."""

    def __init__(self, encoder: Any, tokenizer: Any) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        # A fast tokenizer called by two threads at once raises "Already borrowed".
        self._tokenizer_lock = threading.Lock()

    @torch.inference_mode()
    def encode(self, prompt: str) -> torch.Tensor | None:
        """T5's last hidden states `[tokens, text_dim]`, float32; None for an empty prompt, which means "no
        text".

        Only the empty string is empty: audiocraft masks that one, and encodes a blank like any other text.
        What goes beyond 512 tokens is cut, and a log line says so.
        """
        if prompt == "":
            return None
        with self._tokenizer_lock:
            tokens = self._tokenizer(prompt, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)
        if tokens["input_ids"].shape[1] == MAX_TOKENS:
            logger.warning("The prompt is long: what goes beyond %d tokens of it has no influence.", MAX_TOKENS)
        device = self._encoder.device
        states: torch.Tensor = self._encoder(
            input_ids=tokens["input_ids"].to(device), attention_mask=tokens["attention_mask"].to(device)
        ).last_hidden_state[0]
        return states


def load_text_conditioner(folder: Path, config: dict[str, Any], *, device: torch.device) -> TextConditioner:
    """T5 and its tokenizer from a model folder; `config` is the folder's config.json. Raises CheckpointError.

    Float32 whatever the language model's type, as in audiocraft: T5 overflows in float16, and it runs once a
    request.
    """
    from transformers.models.auto.tokenization_auto import AutoTokenizer
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    section = config.get("text_encoder", {})
    if section.get("model_type", "t5") != "t5":
        raise CheckpointError(f"The text encoder is {section['model_type']!r}; only T5 is supported.")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        # transformers would make up a tokenizer that knows no word.
        raise CheckpointError(f"{folder} holds no tokenizer: one of {', '.join(TOKENIZER_FILES)} is needed.")
    encoder = load_part(T5EncoderModel, T5Config(**section), read_weights(folder, "text_encoder."), device)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"The tokenizer in {folder} cannot be read: {error}") from error
    return TextConditioner(encoder, tokenizer)


class MelodyConditioner:
    """Turns audio into the chromagram that melody models follow: per frame, which of the 12 pitch classes is
    loudest."""

    def __init__(self, *, sample_rate: int, bins: int, frames: int, separator: StemSeparator | None = None) -> None:
        from transformers.audio_utils import chroma_filter_bank

        self._sample_rate = sample_rate
        self._frames = frames
        self._separator = separator
        filters = chroma_filter_bank(num_frequency_bins=N_FFT, num_chroma=bins, sampling_rate=sample_rate, tuning=0.0)
        self._filters = torch.from_numpy(filters).float()
        self._window = torch.hann_window(N_FFT)

    @torch.inference_mode()
    def encode(self, melody: Waveform) -> torch.Tensor:
        """One-hot chroma `[frames, bins]`, float32, on the CPU.

        A melody shorter than the model's 30 s is repeated, a longer one cut. As in audiocraft, it is the
        chroma that is repeated and cut; transformers' extractor cuts the waveform, which changes the last two
        frames of a long melody.
        """
        if melody.sample_rate != self._sample_rate:
            raise ValueError(f"expected a melody at {self._sample_rate} Hz, got {melody.sample_rate} Hz")
        # What lies beyond the last frame's window cannot change the chroma; it need not be separated either.
        samples = torch.from_numpy(melody.samples)[:, : self._frames * HOP + N_FFT]
        if self._separator is not None:
            samples = self._separator.without_rhythm(samples, self._sample_rate)
        chroma = self.chroma(samples.mean(dim=0))
        return chroma.repeat(math.ceil(self._frames / chroma.shape[0]), 1)[: self._frames]

    def chroma(self, samples: torch.Tensor) -> torch.Tensor:
        """One-hot chroma `[1 + samples // 4096, bins]` of a mono signal `[samples]`; digital silence is bin 0."""
        missing = max(0, N_FFT - samples.shape[0])
        samples = functional.pad(samples, (missing // 2, missing - missing // 2))
        spectrum = torch.stft(
            samples, N_FFT, HOP, window=self._window, center=True, pad_mode="reflect", return_complex=True
        )
        # As torchaudio's Spectrogram(power=2, normalized=True): divided by the window's energy.
        power = (spectrum / self._window.square().sum().sqrt()).abs().square()
        loudest = (self._filters @ power).argmax(dim=0)
        return functional.one_hot(loudest, self._filters.shape[0]).float()


def load_melody_conditioner(*, sample_rate: int, bins: int, frames: int, device: torch.device) -> MelodyConditioner:
    """A melody conditioner, with stem separation where demucs and its weights are installed."""
    separator = StemSeparator.load(device)
    return MelodyConditioner(sample_rate=sample_rate, bins=bins, frames=frames, separator=separator)
