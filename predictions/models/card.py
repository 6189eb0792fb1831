"""What the service knows about a model: the card that its workers announce, stored in Redis."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

EXTRA_THREADS = 4
"""Predictions that a worker holds besides those that it decodes."""


class Abilities(BaseModel):
    """What a model can do. An input that asks for more is refused when it is submitted."""

    model_config = ConfigDict(frozen=True)

    melody: bool
    continuation: bool = True
    multi_band_diffusion: bool = False
    channels: int
    sample_rate: int
    max_duration: int
    """Seconds."""


class ModelCard(Abilities):
    """A model's name, version and abilities."""

    name: str
    """owner/name"""
    version: str
    """As the operator named it, else the checksum."""
    checksum: str | None = None
    """SHA-256 of the model's configuration and weights, in hex; None in the card of an older worker."""
    code_version: str | None = None
    """The worker's version of the package, and its source's revision where that is known."""
    defaults: dict[str, int | float] = {}
    """The inputs of a prediction that leaves them out, where the model's own differ from those of MusicGen."""
    trained: bool = True
    """False for random weights, which stand in for a model that was not given."""
    concurrency: int
    """Requests that one worker generates together."""

    @property
    def threads(self) -> int:
        """Predictions that one worker holds at a time: while some are decoded, others are prepared or stored."""
        return self.concurrency + EXTRA_THREADS


class Announcement(ModelCard):
    """What a worker announces: the model's public card, and what only the estimates need to know."""

    frame_rate: int = 50
    """Decoding steps for a second of music."""
    delay_frames: int = 3
    """Further decoding steps of each window: the largest delay among the codebooks."""

    def decoding_steps(self, seconds: float) -> float:
        """The decoding steps for this many seconds of music."""
        return seconds * self.frame_rate + self.delay_frames
