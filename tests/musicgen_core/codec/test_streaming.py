"""Sound while it is generated: the chunks put together are the whole."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen_core import GenerationCancelled, GenerationInput, MusicGen, SamplingParams, Waveform
from musicgen_core.codec.encodec import Codec
from musicgen_core.errors import InvalidRequest
from musicgen_core.executor import run_to_end
from musicgen_core.lm.delay_pattern import UNKNOWN, whole_frames
from tests.musicgen_core.reference import our_codec


def musicgens_codec() -> Codec:
    """EnCodec with the shape that MusicGen's has, and random weights."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        sampling_rate=32_000,
        upsampling_ratios=[8, 5, 4, 4],
        num_filters=8,
        hidden_size=16,
        codebook_size=64,
        codebook_dim=16,
        target_bandwidths=[1.2],
        use_causal_conv=False,
        norm_type="weight_norm",
        normalize=False,
        use_conv_shortcut=False,
        num_residual_layers=1,
    )
    torch.manual_seed(0)
    return our_codec(EncodecModel(config))


def codes(codebooks: int, frames: int) -> torch.Tensor:
    return torch.randint(64, (codebooks, frames), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ends", [(1, 2, 3, 4, 5, 6, 7, 40), (25, 50, 75, 100, 103), (3,), (1,), (60, 61)])
def test_chunks_make_the_whole(ends: tuple[int, ...]) -> None:
    codec = musicgens_codec()
    given = codes(codec.codebooks, ends[-1])
    decoder = codec.streaming_decoder()
    chunks = [run_to_end(decoder.push(given[:, :end], last=end == ends[-1])) for end in ends]
    whole = codec.decode(given)
    assert float(whole.abs().max()) > 1e-3
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, atol=1e-6, rtol=0)


def test_sound_is_four_frames_behind_the_codes() -> None:
    """Three for the first convolution, and less than one for all that follow."""
    codec = musicgens_codec()
    heard = run_to_end(codec.streaming_decoder().push(codes(codec.codebooks, 25)))
    assert 21 * codec.hop <= heard.shape[1] < 22 * codec.hop


def test_what_came_before_matters_to_what_is_made() -> None:
    """The check above could not fail if the LSTM and the margins did nothing."""
    codec = musicgens_codec()
    given = codes(codec.codebooks, 60)
    alone = codec.decode(given[:, 30:])
    assert not torch.allclose(alone, codec.decode(given)[:, 30 * codec.hop :], atol=1e-5)


def test_frames_are_whole_when_every_codebook_is_known() -> None:
    known = torch.tensor([[1, 2, 3, 4], [1, 2, 3, UNKNOWN], [1, 2, UNKNOWN, UNKNOWN]])
    assert whole_frames(known).tolist() == [[1, 2], [1, 2], [1, 2]]


def wanted(**changes: object) -> GenerationInput:
    values = {"prompt": "piano", "duration": 2.0, "seed": 3, "sampling": SamplingParams(), "live": True} | changes
    return GenerationInput(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["text_model", "stereo_model"])
def test_a_live_job_hands_out_its_sound(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    with MusicGen.load(folder, device="cpu", max_requests=1) as model:
        chunks: list[Waveform] = []
        job = model.submit(wanted())
        job.finish(on_chunk=chunks.append)
        audio, plain = job.audio(), model.submit(wanted(live=False)).audio()
    together = np.concatenate([chunk.samples for chunk in chunks], axis=1)
    np.testing.assert_allclose(together, audio.samples, atol=1e-4)
    # To follow a piece live changes nothing in it.
    np.testing.assert_array_equal(audio.samples, plain.samples)


def test_a_slow_listener_gets_the_same_chunks(text_model: Path) -> None:
    with MusicGen.load(text_model, device="cpu", max_requests=1) as model:
        quick: list[int] = []
        slow: list[int] = []
        model.submit(wanted()).finish(on_chunk=lambda chunk: quick.append(chunk.samples.shape[1]))
        model.submit(wanted()).finish(on_chunk=lambda chunk: (slow.append(chunk.samples.shape[1]), time.sleep(0.2))[0])
    assert quick == slow
    assert len(quick) == 5


def test_codes_are_shown_every_half_second() -> None:
    from tests.musicgen_core.reference import make_engine, make_request

    engine = make_engine(requests=2)
    live, quiet = engine.submit(make_request(frames=60), live=True), engine.submit(make_request(frames=60))
    shown = []
    while engine.step():
        shown.append(None if live.codes_so_far is None else live.codes_so_far.shape[1])
    assert shown[23:25] == [None, 22]
    assert shown[49] == 47
    assert torch.equal(live.codes_so_far, live.codes()[:, :47])
    assert quiet.codes_so_far is None


def test_a_refused_chunk_ends_the_job(text_model: Path) -> None:
    def refuse(_: Waveform) -> None:
        raise InvalidRequest("nobody wants it")

    with MusicGen.load(text_model, device="cpu", max_requests=1) as model:
        job = model.submit(wanted(duration=20.0))
        with pytest.raises(InvalidRequest):
            job.finish(on_chunk=refuse)
        assert job.wait(10)
        with pytest.raises(GenerationCancelled):
            job.audio()
