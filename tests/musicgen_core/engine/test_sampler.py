import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from musicgen_core.engine.sampler import SamplingTable, draw_noise, guide, ranks_needed, sample
from musicgen_core.engine.sampling_params import SamplingParams

CPU = torch.device("cpu")
VOCABULARY = 64
SEEDS = 6000


def make_table(params: list[SamplingParams], *, guided: bool = False) -> SamplingTable:
    table = SamplingTable.empty(len(params), CPU)
    for slot, one in enumerate(params):
        table.set(slot, one, guided=guided)
    return table


def draw(logits: Tensor, noise: Tensor, params: list[SamplingParams]) -> Tensor:
    return sample(logits, noise, make_table(params), ranks_needed(params, logits.shape[-1]))


def some_logits(slots: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.randn(slots, 4, vocabulary, generator=torch.Generator().manual_seed(seed)) * 2


def exact_probabilities(logits: Tensor, params: SamplingParams) -> Tensor:
    """The distribution of one row [vocabulary] by transformers' own processors."""
    no_ids, scores = torch.empty(1, 0, dtype=torch.int64), logits[None].double()
    scores = TemperatureLogitsWarper(params.temperature)(no_ids, scores)
    if params.top_p > 0:
        scores = TopPLogitsWarper(params.top_p)(no_ids, scores)
    elif params.top_k > 0:
        scores = TopKLogitsWarper(params.top_k)(no_ids, scores)
    probabilities: Tensor = scores.softmax(-1)[0]
    return probabilities


def follows(params: SamplingParams, drawn_with: SamplingParams) -> float:
    """p-value of draws over many seeds, made with one set of parameters, under another's distribution."""
    row = some_logits(1)[0, 0]
    noise = torch.cat([draw_noise(seed, 1, 4, greedy=False) for seed in range(SEEDS)])
    drawn = draw(row.expand(SEEDS, 4, -1).contiguous(), noise, [drawn_with] * SEEDS)
    counts = torch.bincount(drawn.flatten(), minlength=VOCABULARY)
    expected = exact_probabilities(row, params) * counts.sum()
    possible = expected > 0
    if counts[~possible].any():
        return 0.0
    return float(chisquare(counts[possible].numpy(), expected[possible].numpy()).pvalue)


SETTINGS = [
    SamplingParams(top_k=0),
    SamplingParams(top_k=10),
    SamplingParams(top_k=10, temperature=0.7),
    SamplingParams(top_k=1000, temperature=1.5),
    SamplingParams(top_p=0.8),
    SamplingParams(top_p=0.8, top_k=2, temperature=1.3),
    SamplingParams(top_p=1.0),
]


@pytest.mark.parametrize("params", SETTINGS, ids=str)
def test_draws_follow_the_exact_distribution(params: SamplingParams) -> None:
    assert follows(params, params) > 1e-3


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        (SamplingParams(top_k=10), SamplingParams(top_k=11)),
        (SamplingParams(top_k=10), SamplingParams(top_k=9)),
        (SamplingParams(top_k=10), SamplingParams(top_k=0)),
        (SamplingParams(top_p=0.8), SamplingParams(top_p=0.84)),
        (SamplingParams(top_p=0.8), SamplingParams(top_p=0.7)),
        (SamplingParams(top_k=10), SamplingParams(top_k=10, temperature=1.1)),
        (SamplingParams(top_k=0), SamplingParams(top_k=0, temperature=0.9)),
    ],
    ids=str,
)
def test_the_same_check_rejects_wrong_settings(params: SamplingParams, wrong: SamplingParams) -> None:
    assert follows(params, wrong) < 1e-6


def test_neighbours_change_nothing() -> None:
    everyone = [*SETTINGS, SamplingParams(temperature=0), SamplingParams(top_k=1), SamplingParams()]
    logits = some_logits(len(everyone), vocabulary=2048)
    logits = (logits * 8).round() / 8  # many ties, also at the k-th largest
    noise = torch.stack([draw_noise(seed, 1, 4, greedy=False)[0] for seed in range(len(everyone))])
    together = draw(logits, noise, everyone)
    for index, params in enumerate(everyone):
        own = slice(index, index + 1)
        assert torch.equal(draw(logits[own], noise[own], [params]), together[own])


def test_greedy_takes_the_first_of_the_largest() -> None:
    logits = some_logits(3)
    logits[1, 2, [7, 40]] = logits[1, 2].max() + 1
    params = [SamplingParams(temperature=0, top_p=0.9), SamplingParams(temperature=0), SamplingParams(top_k=1)]
    noise = torch.stack([draw_noise(seed, 1, 4, greedy=True)[0] for seed in range(3)])
    drawn = draw(logits, noise, params)
    assert torch.equal(drawn, logits.argmax(-1))
    assert drawn[1, 2] == 7


def test_noise_at_its_ends_stays_inside_the_distribution() -> None:
    logits = some_logits(2)
    last = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    for params in SETTINGS:
        for value in (0.0, float(last)):
            drawn = draw(logits, torch.full((2, 4), value), [params, params])
            for slot in range(2):
                for codebook in range(4):
                    assert exact_probabilities(logits[slot, codebook], params)[drawn[slot, codebook]] > 0


def test_noise_belongs_to_the_seed() -> None:
    assert torch.equal(draw_noise(5, 10, 4, greedy=False), draw_noise(5, 10, 4, greedy=False))
    assert not torch.equal(draw_noise(5, 10, 4, greedy=False), draw_noise(6, 10, 4, greedy=False))
    draw_noise(2**64 - 1, 1, 4, greedy=False)


def test_only_as_many_logits_are_ranked_as_someone_needs() -> None:
    assert ranks_needed([SamplingParams(top_k=0)], 2048) == 0
    assert ranks_needed([SamplingParams(top_k=5000)], 2048) == 0
    assert ranks_needed([SamplingParams(top_k=20), SamplingParams(temperature=0)], 2048) == 20
    assert ranks_needed([SamplingParams(top_k=20), SamplingParams(top_p=0.5)], 2048) == 2048


def test_guidance_mixes_pairs_and_leaves_single_rows() -> None:
    logits = torch.randn(2, 2, 4, VOCABULARY)
    table = make_table([SamplingParams(guidance=3), SamplingParams(guidance=3)], guided=True)
    table.guided[1] = False
    mixed = guide(logits, table)
    torch.testing.assert_close(mixed[0], logits[0, 1] + 3 * (logits[0, 0] - logits[0, 1]))
    assert torch.equal(mixed[1], logits[1, 0])


def test_more_ranks_than_needed_change_nothing() -> None:
    """A step ranks as many logits as its bucket says, which may be more than its requests need."""
    greedy, unlimited = SamplingParams(temperature=0), SamplingParams(top_k=0)
    for params in ([greedy], [unlimited], [greedy, unlimited], SETTINGS[:4], SETTINGS):
        logits = some_logits(len(params))
        logits = (logits * 4).round() / 4  # many ties, also at the k-th largest
        noise = torch.stack([draw_noise(seed, 1, 4, greedy=False)[0] for seed in range(len(params))])
        needed = ranks_needed(params, VOCABULARY)
        expected = sample(logits, noise, make_table(params), needed)
        for ranks in range(needed, VOCABULARY + 1):
            assert torch.equal(sample(logits, noise, make_table(params), ranks), expected)
