"""A step by the kernels against the same step by torch, with weights that nothing has packed."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.engine import TINY
from musicgen_core.engine import batch_decoder
from musicgen_core.engine.batch_decoder import BatchDecoder
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.engine.sampler import SamplingTable, guide
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.executor import run_to_end
from musicgen_core.kernels.library import Kernels, all_kernels
from musicgen_core.lm.transformer import LanguageModel, LanguageModelConfig
from tests.musicgen_core.reference import run_in_turns

TEXT = replace(TINY, layers=3, ffn_dim=128, vocabulary=128)
MELODY = replace(TEXT, chroma_bins=12, chroma_frames=20)
ODD = replace(TEXT, layers=2, dim=42, heads=3, ffn_dim=50, vocabulary=37, codebooks=3, text_dim=42)
CONFIGS = {
    "text": TEXT,
    "melody": MELODY,
    "stereo": replace(TEXT, codebooks=8, audio_channels=2),
    "stereo-melody": replace(MELODY, codebooks=8, audio_channels=2),
    "odd, gelu": ODD,
    "odd, relu": replace(ODD, activation="relu"),
    "odd, silu": replace(ODD, activation="silu", chroma_bins=5, chroma_frames=7),
    "heads of 64": replace(TEXT, layers=2, dim=128, heads=2),
}
STEPS = 110


@functools.cache
def plain(name: str) -> LanguageModel:
    """Weights so large that logits are far apart and ties do not occur."""
    torch.manual_seed(0)
    model = LanguageModel(CONFIGS[name]).eval()
    for parameter_name, parameter in model.named_parameters():
        middle = 1.0 if "norm.weight" in parameter_name else 0.0
        parameter.data.normal_(middle, 1.0 if parameter_name == "embedding" else 1.6 / CONFIGS[name].dim ** 0.5)
    return model


@functools.cache
def packed(name: str, kernels: Kernels, int8: bool = False) -> LanguageModel:
    model = copy.deepcopy(plain(name))
    model.pack(int8=int8, kernels=kernels)
    return model


def make_request(
    config: LanguageModelConfig, frames: int, seed: int, *, guidance: float = 3, given: int = 0
) -> Request:
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1 + seed % 9, config.text_dim, generator=generator)
    chroma = None if config.chroma_bins is None else torch.rand(5 + seed, config.chroma_bins, generator=generator)
    codes = torch.randint(config.vocabulary, (config.codebooks, given), generator=generator) if given else None
    sampling = SamplingParams(temperature=0, guidance=guidance)
    return Request(frames, sampling, seed, Conditions(text, chroma), codes)


@functools.cache
def requests(config: LanguageModelConfig) -> tuple[Request, ...]:
    """Guided and not, with and without something to continue; most are shorter than the first."""
    return (
        make_request(config, STEPS, 1),
        make_request(config, 40, 2, guidance=1),
        make_request(config, 9, 3, given=12),
        make_request(config, 1, 4),
        Request(25, SamplingParams(temperature=0), 5),
        make_request(config, 30, 6, guidance=0),
        make_request(config, 30, 7, given=40, guidance=1),
        make_request(config, 20, 8, guidance=6.5),
    )


@pytest.fixture
def logits(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Copies of each step's logits, `[slots, 2, codebooks, vocabulary]`."""
    seen: list[Tensor] = []

    def seeing(step: Tensor, table: SamplingTable) -> Tensor:
        seen.append(step.clone())
        return guide(step, table)

    monkeypatch.setattr(batch_decoder, "guide", seeing)
    return seen


class Seeing(BatchDecoder):
    """Keeps which rows ran in each step."""

    def __init__(self, model: LanguageModel, slots: int = 4) -> None:
        super().__init__(model, slots=slots, max_frames=160, max_text_tokens=16)
        self.ran: list[dict[int, int]] = []

    def step(self) -> None:
        self.ran.append({slot: lane.rows for slot, lane in self.lanes.items()})
        super().step()

    def rows(self, logits: list[Tensor]) -> list[Tensor]:
        """The logits of the rows that ran, step by step."""
        return [
            torch.cat([step[slot, :rows].flatten() for slot, rows in sorted(ran.items())])
            for step, ran in zip(logits, self.ran, strict=True)
        ]


def play(model: LanguageModel, logits: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The codes of all requests, which join and leave by turns, and the logits of all rows that ran."""
    logits.clear()
    decoder = Seeing(model)
    codes = run_in_turns(decoder, *requests(model.config))
    return codes, decoder.rows(logits)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_greedy_tokens_are_torch_s(name: str, logits: list[Tensor]) -> None:
    expected_codes, expected = play(plain(name), logits)
    assert len(expected) > STEPS
    assert torch.cat(expected).std() > 0.5
    for threads in (1, 2, 3) if name in {"text", "odd, silu"} else (1,):
        for kernels in all_kernels(threads):
            codes, got = play(packed(name, kernels), logits)
            for one, other in zip(got, expected, strict=True):
                torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
            assert all(map(torch.equal, codes, expected_codes)), (kernels.name, threads)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", ["text", "melody", "odd, gelu", "heads of 64"])
def test_among_64_rows_a_request_has_the_bits_that_it_has_alone(name: str, int8: bool, logits: list[Tensor]) -> None:
    crowd = [make_request(CONFIGS[name], 30, seed, guidance=seed % 3, given=seed % 4) for seed in range(32)]
    bits: dict[str, Tensor] = {}
    for threads in (1, 2, 3):
        for kernels in all_kernels(threads):
            model = packed(name, kernels, int8)
            crowded = Seeing(model, slots=32)
            for slot, request in enumerate(crowd):
                run_to_end(crowded.admit(slot, request))
            logits.clear()
            for _ in range(4):
                crowded.step()
            together = torch.stack(logits, dim=1)
            for slot in (0, 13, 31):
                alone = Seeing(model, slots=1)
                run_to_end(alone.admit(0, crowd[slot]))
                logits.clear()
                for _ in range(4):
                    alone.step()
                rows = alone.lanes[0].rows
                assert torch.equal(torch.stack(logits)[:, 0, :rows], together[slot, :, :rows]), (kernels.name, threads)
            ran = torch.cat([together[slot, :, : lane.rows].flatten() for slot, lane in crowded.lanes.items()])
            assert ran.isfinite().all()
            # Nor does the number of threads change a bit.
            assert torch.equal(bits.setdefault(kernels.name, ran), ran), (kernels.name, threads)


def test_64_rows_with_two_for_each_request(logits: list[Tensor]) -> None:
    crowd = [make_request(TEXT, 30, seed) for seed in range(32)]
    steps = []
    for model in (plain("text"), *(packed("text", kernels) for kernels in all_kernels(2))):
        decoder = Seeing(model, slots=32)
        for slot, request in enumerate(crowd):
            run_to_end(decoder.admit(slot, request))
        logits.clear()
        for _ in range(3):
            decoder.step()
        steps.append(torch.stack(decoder.rows(logits)))
    expected, *others = steps
    assert expected.shape[1] == 64 * TEXT.codebooks * TEXT.vocabulary
    for other in others:
        torch.testing.assert_close(other, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_int8_follows_float32(name: str, logits: list[Tensor]) -> None:
    """On steps that take the same columns in: the first of each request, whose columns are given."""
    first = [replace(request, frames=1) for request in requests(CONFIGS[name])]

    def logits_of(model: LanguageModel) -> Tensor:
        found = []
        for request in first:
            decoder = Seeing(model, slots=1)
            run_to_end(decoder.admit(0, request))
            logits.clear()
            decoder.step()
            found += decoder.rows(logits)
        return torch.cat(found)

    exact = logits_of(plain(name))
    for kernels in all_kernels(1):
        rounded = logits_of(packed(name, kernels, int8=True))
        assert torch.corrcoef(torch.stack([exact, rounded]))[0, 1] > 0.995, kernels.name
        assert not torch.equal(exact, rounded)
