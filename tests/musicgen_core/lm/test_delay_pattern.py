import pytest
import torch

from musicgen_core.lm.delay_pattern import UNKNOWN, apply_delays, codebook_delays, column_count, undo_delays
from tests.musicgen_core.reference import KINDS, VOCABULARY, Kind, prompt, reference


def test_delays_of_mono_and_stereo() -> None:
    assert codebook_delays(4, 1) == (0, 1, 2, 3)
    assert codebook_delays(8, 2) == (0, 0, 1, 1, 2, 2, 3, 3)


def test_columns_are_those_of_the_paper() -> None:
    columns = apply_delays(torch.tensor([[1, 2, 3], [4, 5, 6]]), (0, 1), padding=9)
    assert columns.tolist() == [[9, 1, 2, 3, 9], [9, 9, 4, 5, 6]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 3, 50])
def test_undo_takes_apply_back(kind: Kind, frames: int) -> None:
    codes, delays = prompt(kind, frames), reference(kind).ours.config.delays
    columns = apply_delays(codes, delays, VOCABULARY)
    assert columns.shape[1] == column_count(frames, delays)
    assert torch.equal(undo_delays(columns, delays), codes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [0, 1, 7])
def test_equals_transformers(kind: Kind, given: int) -> None:
    codes, delays = prompt(kind, given), reference(kind).ours.config.delays
    unknown = torch.full((codes.shape[0], 10), UNKNOWN)
    columns = apply_delays(torch.cat([codes, unknown], dim=1), delays, VOCABULARY)
    start = torch.full((codes.shape[0], 1), VOCABULARY)
    _, mask = reference(kind).theirs.decoder.build_delay_pattern_mask(
        torch.cat([start, codes], dim=1), pad_token_id=VOCABULARY, max_length=columns.shape[1]
    )
    assert torch.equal(columns, mask)
