"""What the API knows of the model that the workers have loaded: announced by them, stored in Redis."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ModelCard(BaseModel):
    """A model's name, version and abilities."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    """SHA-256 over the model's configuration and weights, in hex."""
    melody: bool
    multi_band_diffusion: bool = False
    channels: int
    sample_rate: int
    max_duration: int
    """Seconds."""
    trained: bool = True
    """False for the random weights that the service starts with where it is given no model."""
    concurrency: int
    """Requests one worker generates together."""
