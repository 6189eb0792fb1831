"""Estimates of overlapping windows, cross-faded."""

from itertools import pairwise

import pytest
import torch

from musicgen_core.diffusion.overlap_add import OVERLAP_FRAMES, WINDOW_FRAMES, overlap_add, window_starts
from musicgen_core.executor import run_to_end

HOP = 4


@pytest.mark.parametrize(
    ("frames", "starts"),
    [
        (1, [0]),
        (1500, [0]),
        (1501, [0, 1]),
        (2950, [0, 1450]),
        (2951, [0, 726, 1451]),
        (15_000, [0, 1350, 2700, 4050, 5400, 6750, 8100, 9450, 10_800, 12_150, 13_500]),
    ],
)
def test_few_windows_of_one_length(frames: int, starts: list[int]) -> None:
    assert window_starts(frames) == starts


def test_windows_cover_all_frames_and_overlap() -> None:
    for frames in range(31, 400):
        starts = window_starts(frames, window=30, overlap=5)
        assert (starts[0], starts[-1] + 30) == (0, frames)
        assert all(0 < after - before <= 25 for before, after in pairwise(starts))


@pytest.mark.parametrize("frames", [1499, 1500, 1501, 4000])
def test_what_looks_at_single_samples_is_not_changed(frames: int) -> None:
    x = torch.randn(2, frames * HOP, generator=torch.Generator().manual_seed(1))
    seen = []

    def halve(part: torch.Tensor, at: slice) -> torch.Tensor:
        assert torch.equal(part, x[:, at.start * HOP : at.stop * HOP])
        seen.append(at)
        return part / 2

    torch.testing.assert_close(run_to_end(overlap_add(x, frames, halve)), x / 2, rtol=0, atol=1e-5)
    assert [at.start for at in seen] == window_starts(frames)
    assert all(at.stop - at.start == min(frames, WINDOW_FRAMES) for at in seen)


def test_one_window_goes_over_into_the_next_without_a_jump() -> None:
    frames = 2 * WINDOW_FRAMES - OVERLAP_FRAMES
    joined = run_to_end(
        overlap_add(torch.zeros(1, frames * HOP), frames, lambda part, at: torch.full_like(part, float(at.start > 0)))
    )[0]
    first = (WINDOW_FRAMES - OVERLAP_FRAMES) * HOP
    assert (joined[:first] == 0).all()
    assert (joined[first + OVERLAP_FRAMES * HOP :] == 1).all()
    assert 0 < joined.diff().max() < 1.1 / (OVERLAP_FRAMES * HOP)
    assert joined.diff().min() >= 0
