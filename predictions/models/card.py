"""What the API knows of a model: what the workers that loaded it announced, stored in Redis."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

EXTRA_THREADS = 4


class Abilities(BaseModel):
    """What a model can do; an input that asks for more is refused at submit."""

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
    """As the operator named it; else a SHA-256 over the model's configuration and weights, in hex."""
    checksum: str | None = None
    """SHA-256 over the model's configuration and weights, in hex; none where an older worker announced it."""
    code_version: str | None = None
    """Of the worker's code: the package's version, and the source's revision where it is known."""
    trained: bool = True
    """False for the random weights that the service starts with where it is given no model."""
    concurrency: int
    """Requests one worker generates together."""

    @property
    def threads(self) -> int:
        """Predictions that one worker holds at a time: while some are decoded, others are prepared or stored."""
        return self.concurrency + EXTRA_THREADS
