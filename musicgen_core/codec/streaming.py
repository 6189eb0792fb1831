"""EnCodec's decoder on tokens that are still being generated: samples as soon as they can no longer change.

EnCodec at 32 kHz is not causal: a sample also depends on later frames, nearly four. So the sound comes that much later
than its tokens. Decoding a whole piece is the same, with all its tokens at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from musicgen_core.codec.layer import Layer, State
from musicgen_core.executor import Resumable


class StreamingDecoder:
    """Decodes one piece of music, in stretches of a limited number of frames."""

    def __init__(self, to_latents: Callable[[Tensor], Tensor], network: Layer, *, stretch: int) -> None:
        """Start a piece.

        `to_latents`: codes `[codebooks, frames]` to latents `[channels, dim, frames]`. `network`: latents to samples.
        `stretch`: frames at a time.
        """
        self._to_latents = to_latents
        self._network = network
        self._stretch = stretch
        self._state: State = None
        self._frames = 0

    @torch.inference_mode()
    def push(self, codes: Tensor, *, last: bool = False) -> Resumable[Tensor]:
        """The next samples `[channels, samples]` that are final, maybe none; a stretch of frames between two yields.

        `codes`: all codes so far, `[codebooks, frames]`, some of them new. `last`: no more will follow.
        """
        latents = self._to_latents(codes[:, self._frames :]).permute(2, 0, 1)
        self._frames = codes.shape[1]
        samples = []
        for begin in range(0, len(latents), self._stretch):
            if begin:
                yield
            end = begin + self._stretch
            piece, self._state = self._network.push(latents[begin:end], self._state, last=last and end >= len(latents))
            samples.append(piece)
        return torch.cat(samples)[:, :, 0].t().contiguous()
