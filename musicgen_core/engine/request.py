"""What a caller asks of the engine, and what the model must see for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_core.adapters.adapter import AdapterUse
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import InvalidRequest, UnsupportedByModel
from musicgen_core.lm.linear import Adapters
from musicgen_core.lm.transformer import LanguageModel, LanguageModelConfig


@dataclass(frozen=True)
class Conditions:
    """What the music should follow."""

    text: Tensor | None = None
    """The text encoder's last hidden states before projection, without padding, `[tokens, text_dim]`; None: no text."""
    chroma: Tensor | None = None
    """The melody, `[frames, chroma_bins]`, repeated or cut to the model's chroma_frames; None: no melody."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to follow."""
        return self.text is None and self.chroma is None

    @property
    def text_tokens(self) -> int:
        """How many vectors stand for the text; without one, a single vector of zeros."""
        return 1 if self.text is None else self.text.shape[0]


@dataclass(frozen=True)
class Request:
    """One piece of music, no longer than a window."""

    frames: int
    """New frames to generate."""
    sampling: SamplingParams
    seed: int
    """0 to 2**64 - 1."""
    conditions: Conditions = Conditions()
    prompt_codes: Tensor | None = None
    """The codes of audio to continue, int64 `[codebooks, prompt_frames]`."""
    stream_offset: int = 0
    """Steps of the seed's random stream to skip: those of the windows before (see `long_form`)."""
    adapter: AdapterUse | None = None
    """What changes the model for all its rows; None: nothing."""

    @property
    def prompt_frames(self) -> int:
        """Frames given rather than generated."""
        return 0 if self.prompt_codes is None else self.prompt_codes.shape[1]

    @property
    def total_frames(self) -> int:
        """Frames of the result."""
        return self.prompt_frames + self.frames

    @property
    def rows(self) -> tuple[bool, ...]:
        """The rows that guidance mixes; True is the conditional one.

        With nothing to follow the two would be equal, and with guidance 1 or 0 one of them has no weight: then one row
        is exact.
        """
        if self.conditions.is_empty or self.sampling.guidance == 0:
            return (False,)
        return (True,) if self.sampling.guidance == 1 else (True, False)


def check_request(request: Request, config: LanguageModelConfig, max_frames: int, max_text_tokens: int) -> None:
    """Raise InvalidRequest or UnsupportedByModel where this model and its memory cannot serve a request."""
    if request.frames < 1:
        raise InvalidRequest(f"at least one frame must be generated, got {request.frames}")
    if request.total_frames > max_frames:
        raise InvalidRequest(
            f"{request.total_frames} frames ({request.prompt_frames} given, {request.frames} new) "
            f"are more than the {max_frames} allowed"
        )
    if not 0 <= request.seed < 2**64:
        raise InvalidRequest(f"seed must lie between 0 and 2**64 - 1, got {request.seed}")
    _check_prompt(request.prompt_codes, config)
    _check_text(request.conditions.text, config, max_text_tokens)
    _check_chroma(request.conditions.chroma, config)


def check_adapter(use: AdapterUse | None, config: LanguageModelConfig, max_adapters: int, max_rank: int) -> None:
    """Raise InvalidRequest where this model cannot use an adapter, or has no room for it."""
    if use is None:
        return
    adapter = use.adapter
    if max_adapters == 0:
        raise InvalidRequest("adapters are off; load the model with max_adapters of 1 or more")
    if adapter.config != config:
        raise InvalidRequest(f"the adapter {adapter.name} was loaded for another model; load it with this one")
    if adapter.rank > max_rank:
        raise InvalidRequest(f"the adapter {adapter.name} has rank {adapter.rank}, at most {max_rank} is allowed")


def condition_vectors(
    model: LanguageModel, conditions: Conditions, *, conditional: bool, adapter: Adapters | None = None
) -> Tensor:
    """The vectors `[tokens, dim]` that stand for the conditions in one row.

    Text models cross-attend to them; melody models get them before the sequence, chroma first. The unconditional row's
    text is as many zero vectors, its melody the constant first bin (what the models learnt as "none").
    """
    text = conditions.text
    if text is not None and conditional:
        states = text.to(model.device, model.dtype)
        vectors: Tensor = model.text_projection(states)
        if adapter is not None:
            vectors = adapter.add("text_projection", states, vectors)
    else:
        vectors = torch.zeros(conditions.text_tokens, model.config.dim, device=model.device, dtype=model.dtype)
    if not model.config.is_melody:
        return vectors
    chroma = _fit_chroma(conditions.chroma if conditional else None, model.config).to(model.device, model.dtype)
    projected: Tensor = model.chroma_projection(chroma)
    if adapter is not None:
        projected = adapter.add("chroma_projection", chroma, projected)
    return torch.cat([projected, vectors])


def _fit_chroma(chroma: Tensor | None, config: LanguageModelConfig) -> Tensor:
    """Repeat or cut a melody, or the lack of one, to `[chroma_frames, chroma_bins]`."""
    assert config.chroma_bins is not None
    assert config.chroma_frames is not None
    if chroma is None:
        chroma = torch.zeros(1, config.chroma_bins)
        chroma[:, 0] = 1
    repeats = -(-config.chroma_frames // chroma.shape[0])
    return chroma.repeat(repeats, 1)[: config.chroma_frames]


def _check_prompt(codes: Tensor | None, config: LanguageModelConfig) -> None:
    if codes is None:
        return
    if codes.ndim != 2 or codes.shape[0] != config.codebooks or codes.dtype != torch.int64:
        raise InvalidRequest(
            f"prompt codes must be int64 of shape [{config.codebooks}, frames], "
            f"got {codes.dtype} of shape {list(codes.shape)}"
        )
    if codes.numel() and not (int(codes.min()) >= 0 and int(codes.max()) < config.vocabulary):
        raise InvalidRequest(f"prompt codes must lie between 0 and {config.vocabulary - 1}")


def _check_text(text: Tensor | None, config: LanguageModelConfig, max_text_tokens: int) -> None:
    if text is None:
        return
    if text.ndim != 2 or text.shape[0] < 1 or text.shape[1] != config.text_dim:
        raise InvalidRequest(f"text states must have the shape [tokens, {config.text_dim}], got {list(text.shape)}")
    if text.shape[0] > max_text_tokens:
        raise InvalidRequest(f"the text is too long: {text.shape[0]} tokens, at most {max_text_tokens} are allowed")


def _check_chroma(chroma: Tensor | None, config: LanguageModelConfig) -> None:
    if chroma is None:
        return
    if not config.is_melody:
        raise UnsupportedByModel("this model cannot follow a melody; load a melody model")
    if chroma.ndim != 2 or chroma.shape[0] < 1 or chroma.shape[1] != config.chroma_bins:
        raise InvalidRequest(f"a melody must have the shape [frames, {config.chroma_bins}], got {list(chroma.shape)}")
