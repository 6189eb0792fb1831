"""The comparison with other engines, on a tiny model: equal music of equal length, or else an error."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.peers.comparison import same_music, take_turns
from benchmarks.peers.models import OURS, Ours, Transformers
from benchmarks.peers.process import Peer, PeerError, Round, Timing
from benchmarks.peers.tables import medians, ratios
from musicgen_core.checkpoints.noise_model import write_noise_model

HOP = 640
SLOW = Timing(steps=2, request=30, codec=1, samples=HOP, sound=[0.5, -1.0], codec_sound=[1.0])
FAST = replace(SLOW, steps=6, request=10)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_noise_model(folder / OURS, kind="text")
    return folder


def test_both_engines_make_the_same_music_of_the_same_length(checkpoint: Path) -> None:
    codes = torch.randint(2048, (4, 20))
    with torch.inference_mode():
        ours, theirs = (model(checkpoint, "cpu", "float32") for model in (Ours, Transformers))
        mine, my_rate = ours.make(12, 2, greedy=True)
        yours, your_rate = theirs.make(12, 2, greedy=True)
        sampled, _ = theirs.make(12, 1, greedy=False)
        torch.testing.assert_close(ours.decode(codes), theirs.decode(codes), rtol=0, atol=1e-5)
    assert mine.shape == (2, 12 * HOP)
    torch.testing.assert_close(mine, yours, rtol=0, atol=1e-4)
    assert not torch.allclose(sampled[0], yours[0], atol=1e-2)
    assert min(my_rate, your_rate) > 0


def test_a_process_does_what_it_is_told_and_idles_in_between(checkpoint: Path) -> None:
    with Peer("ours", sys.executable, "ours", checkpoint, "cpu", "float32") as peer:
        timings = take_turns([peer], Round(frames=5, requests=2, codec_frames=4), rounds=2)["ours"]
    assert "threads" in peer.about
    assert [timing.samples for timing in timings] == [5 * HOP] * 2
    assert min(min(timing.codec, timing.steps, timing.request) for timing in timings) > 0


def test_a_process_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"theirs ended with 1:(.|\n)*transformers"):
        Peer("theirs", sys.executable, "ours", tmp_path, "cpu", "float32")


def test_other_weights_are_noticed() -> None:
    same = {"ours, float32": SLOW, "ours, int8": replace(SLOW, sound=[0.0, 0.0]), "audiocraft, float32": FAST}
    assert "ours, int8 1e+00, 0e+00" in same_music(same)
    with pytest.raises(PeerError, match="audiocraft, float32 and ours, float32 make different sounds"):
        same_music(same | {"audiocraft, float32": replace(FAST, sound=[0.0, -1.0])})
    with pytest.raises(PeerError, match="nan apart"):
        same_music(same | {"audiocraft, float32": replace(FAST, sound=[0.5, math.nan])})


def test_the_tables_hold_medians_spread_and_ratios_round_by_round() -> None:
    ours, theirs = {"ours": [FAST, replace(FAST, steps=8)]}, {"audiocraft": [SLOW, replace(SLOW, steps=1)]}
    [*_, mine, yours] = medians(ours | theirs, {"ours": 2, "audiocraft": 3}, Round(50, 4, 250))
    assert mine == "| ours | 7.00 (6.00 to 8.00) | 10.00 (10.00 to 10.00) | 1.00 (1.00 to 1.00) | 2.0 GB |"
    assert yours.startswith("| audiocraft | 1.50 (1.00 to 2.00) |")
    assert ratios(ours, theirs)[-1] == (
        "| ours / audiocraft | 5.50 (3.00 to 8.00) | 3.00 (3.00 to 3.00) | 1.00 (1.00 to 1.00) |"
    )
