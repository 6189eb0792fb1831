"""How tokens are drawn: the numbers that a caller may choose, checked once, where they enter."""

import math
from dataclasses import dataclass

from musicgen_core.errors import InvalidRequest


@dataclass(frozen=True)
class SamplingParams:
    """The sampling parameters of one request. Raises InvalidRequest where a value makes no sense."""

    temperature: float = 1.0
    """Divides the logits; 0 always takes the likeliest token (greedy)."""
    top_k: int = 250
    """Draw among this many likeliest tokens; 0, or more than there are: among all."""
    top_p: float = 0.0
    """Draw among the likeliest tokens that together reach this probability; above 0 it replaces `top_k`."""
    guidance: float = 3.0
    """Weight of classifier-free guidance (https://arxiv.org/abs/2207.12598): the logits are `unconditional + guidance *
    (conditional - unconditional)`; 1 is conditional only, 0 unconditional only."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InvalidRequest(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k < 0:
            raise InvalidRequest(f"top_k must be 0 or more, got {self.top_k}")
        if not 0 <= self.top_p <= 1:
            raise InvalidRequest(f"top_p must lie between 0 and 1, got {self.top_p}")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise InvalidRequest(f"guidance must be 0 or more, got {self.guidance}")
