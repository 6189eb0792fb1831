"""How tokens are drawn: the numbers a caller may choose, checked once, where they enter."""

import math
from dataclasses import dataclass

from musicgen_core.errors import InvalidRequest


@dataclass(frozen=True)
class SamplingParams:
    """The choices of one request. Raises InvalidRequest where a value makes no sense.

    temperature: divides the logits; 0 always takes the likeliest token (greedy).
    top_k: draw among this many likeliest tokens; 0 draws among all; more than there are means all.
    top_p: draw among the likeliest tokens that together reach this probability; above 0 it takes top_k's
    place.
    guidance: classifier-free guidance (https://arxiv.org/abs/2207.12598): `logits = unconditional + guidance
    *
        (conditional - unconditional)`; 1 is conditional only, 0 unconditional only.
    """

    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    guidance: float = 3.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InvalidRequest(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k < 0:
            raise InvalidRequest(f"top_k must be 0 or more, got {self.top_k}")
        if not 0 <= self.top_p <= 1:
            raise InvalidRequest(f"top_p must lie between 0 and 1, got {self.top_p}")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise InvalidRequest(f"guidance must be 0 or more, got {self.guidance}")
